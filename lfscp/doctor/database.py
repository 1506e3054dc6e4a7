"""The index: whether it can be read and written, and whether its schema is this version's.

Nothing is changed: neither an index is made nor one brought to a new schema.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

from sqlalchemy import Connection, NullPool, create_engine, select, text
from sqlalchemy.exc import SQLAlchemyError

from lfscp.archive.archive import INDEX_FILE
from lfscp.archive.durability import Durability
from lfscp.archive.errors import ArchiveError
from lfscp.archive.index.database.connect import open_database
from lfscp.archive.index.database.database import reason_of, sqlite_path, sqlite_url
from lfscp.archive.index.migrations import HEAD, revision_of
from lfscp.archive.index.tables.schema import instance
from lfscp.doctor.finding import Finding, fine, warning, wrong

if TYPE_CHECKING:
    from lfscp.config import Settings

_SUBJECT: Final = "database"
_WAIT_S: Final = 5.0


@dataclass(slots=True)
class IndexExamination:
    """What is found out about the index.

    Args:
        findings: in their order.
        newest_s: when the newest object came, in seconds since 1970; None if that is unknown.
    """

    findings: list[Finding] = field(default_factory=list)
    newest_s: float | None = None


def examine(settings: Settings) -> IndexExamination:
    """The index as the settings name it."""
    result = IndexExamination()
    url = settings.index.url or sqlite_url(settings.data_dir / INDEX_FILE)
    path = sqlite_path(url)
    try:
        if path is not None and not os.path.lexists(path):
            result.findings.append(_no_file(settings, str(path)))
            return result
        with _connected(url) if path is None else _read_only(path) as connection:
            result.findings += _look(connection)
            if revision_of(connection) == HEAD:
                newest = select(instance.c.received_at).order_by(instance.c.id.desc()).limit(1)
                at = connection.execute(newest).scalar()
                result.newest_s = None if at is None else at / 1000
    except ArchiveError as error:
        result.findings.append(wrong(_SUBJECT, error.reason, error.hint))
    except PermissionError as error:
        reason = f"the index cannot be looked at: {error.filename}: {error.strerror}"
        result.findings.append(wrong(_SUBJECT, reason, "run it as the user of the node"))
    except (SQLAlchemyError, OSError) as error:
        reason = reason_of(error)
        advice = (
            "run `lfscp check` with the node stopped; a damaged index is made anew by "
            "`lfscp check --rebuild`"
            if path is not None
            else "is PostgreSQL up, and are host, database, user and password of index.url right?"
        )
        result.findings.append(wrong(_SUBJECT, f"the index cannot be used: {reason}", advice))
    return result


def _no_file(settings: Settings, path: str) -> Finding:
    root = settings.objects.root or settings.data_dir / "objects"
    if not settings.objects.is_bucket and any(root.glob("*/*/*.dcm")):
        advice = "restore it from a backup, or make it anew: `lfscp check --rebuild`"
        return wrong(_SUBJECT, f"there are objects in {root}, but no index {path}", advice)
    return fine(_SUBJECT, f"there is no index {path} yet; the first start makes it")


@contextmanager
def _connected(url: str) -> Iterator[Connection]:
    database = open_database(url, Durability.FULL, connections=1, timeout_s=_WAIT_S)
    try:
        with database.engine.connect() as connection:
            yield connection
    finally:
        database.close()


@contextmanager
def _read_only(path: Path) -> Iterator[Connection]:
    """An SQLite file, of which nothing is changed, nor is anything made beside it."""

    def connect() -> sqlite3.Connection:
        # Without a write-ahead log nobody has the file open, and it need not be locked.
        mode = "mode=ro" if Path(f"{path}-wal").exists() else "mode=ro&immutable=1"
        return sqlite3.connect(f"file:{quote(str(path))}?{mode}", uri=True, timeout=_WAIT_S)

    engine = create_engine("sqlite://", creator=connect, poolclass=NullPool)
    with engine.connect() as connection:
        yield connection


def _look(connection: Connection) -> Iterator[Finding]:
    server = connection.dialect.name
    if server == "postgresql":
        server = f"PostgreSQL {connection.execute(text('SHOW server_version')).scalar()}"
        if connection.execute(text("SHOW transaction_read_only")).scalar() == "on":
            advice = "name the primary server in index.url, no standby"
            yield wrong(_SUBJECT, "the database is read-only", advice)
    else:
        server = "SQLite"
    schema = revision_of(connection)
    if schema == HEAD:
        yield fine(_SUBJECT, f"{server}, schema {schema}")
    elif schema == "":
        yield fine(_SUBJECT, f"{server}, still empty; the first start makes the tables")
    elif schema is not None and schema < HEAD:
        text_ = f"{server}: the index has schema {schema}, this version makes {HEAD} of it"
        yield warning(_SUBJECT, text_, "back up before the next start: there is no way back")
    else:
        text_ = f"{server}: the index has schema {schema}, this version knows them up to {HEAD}"
        yield wrong(_SUBJECT, text_, "run the newer lfscp that wrote it")
