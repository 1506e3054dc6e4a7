"""Brings an index to the schema of this version.

Opening a current index costs one SELECT. A new one is made from the schema itself; Alembic,
which takes long to load, is for indexes of an older version. A test holds both ways equal.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from sqlalchemy import Connection, Engine, inspect, text

from lfscp.archive.errors import ArchiveError
from lfscp.archive.index.tables.correction_tables import correction
from lfscp.archive.index.tables.job_tables import job
from lfscp.archive.index.tables.maintenance_tables import maintenance
from lfscp.archive.index.tables.route_tables import route_item
from lfscp.archive.index.tables.schema import instance
from lfscp.archive.index.tables.study_tables import study_label
from lfscp.archive.index.tables.workflow_tables import worklist_item
from lfscp.observe.systemd import notify

HEAD: Final = "0014"
_KNOWN: Final = tuple(f"{number:04}" for number in range(1, 14))
_NOTHING: Final = ""  # the revision of a database without our tables
_PATIENCE_US: Final = 1_800_000_000  # asked of systemd: a large index takes minutes
_LOCK_KEY: Final = 0x6C66736370  # "lfscp", as PostgreSQL numbers its advisory locks
_VERSION_TABLE: Final = (
    "CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL, "
    "CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num))"
)


def upgrade(engine: Engine) -> None:
    """Create or migrate the tables; of nodes that start at once, one does it.

    Raises:
        ArchiveError: the index was written by a newer version, or the database cannot hold one.
    """
    with engine.connect() as connection:
        if revision_of(connection) == HEAD:
            return
    with engine.connect() as connection, _tables_may_be_made_anew(connection), connection.begin():
        _lock(connection)
        revision = revision_of(connection)
        if revision == HEAD:
            return  # another node was faster
        if revision == _NOTHING:
            _create(connection)
            return
        if revision is not None and revision not in _KNOWN:
            raise ArchiveError(
                "open the index",
                f"it has schema {revision}, this version knows schemas up to {HEAD}",
                "run the newer lfscp that wrote it",
            )
        _run_alembic(connection)


@contextmanager
def _tables_may_be_made_anew(connection: Connection) -> Iterator[None]:
    """Let SQLite drop a table that others refer to: it alters most of one by making another."""
    if connection.dialect.name != "sqlite":
        yield
        return
    connection.exec_driver_sql("PRAGMA foreign_keys = OFF")  # has no effect in a transaction
    connection.rollback()
    try:
        yield
    finally:
        connection.exec_driver_sql("PRAGMA foreign_keys = ON")
        connection.rollback()


def revision_of(connection: Connection) -> str | None:
    """The schema's revision; None when the tables do not say it."""
    tables = inspect(connection).get_table_names()
    if "alembic_version" in tables:
        found = connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
        return None if found is None else str(found)
    return None if instance.name in tables else _NOTHING


def _lock(connection: Connection) -> None:
    """Begin, so that a crash leaves all of it or nothing, and let no other node do the same."""
    if connection.dialect.name == "sqlite":  # whose driver begins none before a CREATE
        connection.exec_driver_sql("BEGIN IMMEDIATE")
        return
    connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK_KEY})
    encoding = connection.execute(text("SHOW server_encoding")).scalar()
    if encoding != "UTF8":
        raise ArchiveError(
            "open the index",
            f"its database has the encoding {encoding}",
            "make one with ENCODING 'UTF8'",
        )


def _create(connection: Connection) -> None:
    tables = (correction, job, maintenance, route_item, study_label, worklist_item)
    metadata = instance.metadata
    assert all(table.metadata is metadata for table in tables)  # noqa: S101 - one schema has them all
    metadata.create_all(connection, checkfirst=False)
    connection.exec_driver_sql(_VERSION_TABLE)
    stamp = text("INSERT INTO alembic_version (version_num) VALUES (:head)")
    connection.execute(stamp, {"head": HEAD})


def _run_alembic(connection: Connection) -> None:
    from alembic import command
    from alembic.config import Config

    notify(f"EXTEND_TIMEOUT_USEC={_PATIENCE_US}", "STATUS=bringing the index to a new schema")

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    config.attributes["connection"] = connection
    command.upgrade(config, HEAD)
