"""Checks whether the archive could store an object now.

The checks leave no trace: a file is written and removed, and a write of the index changes no row.
No answer contains anything of a patient.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from sqlalchemy import false, select, update
from sqlalchemy.exc import SQLAlchemyError

from lfscp.archive.index.database.database import reason_of
from lfscp.archive.index.tables.schema import TABLES, study
from lfscp.archive.store.bucket.object_probe import BUCKET_IDENTITY

if TYPE_CHECKING:
    from lfscp.archive.archive import Archive

PATIENCE_MS: Final = 1000  # for the index's other writers, which take a few milliseconds


@dataclass(frozen=True, slots=True)
class Check:
    """One question and its answer.

    Args:
        name: what was looked at: "disk", "objects", "data folder", "index", "bucket".
        problem: why nothing can be stored now, in words; empty when all is well.
    """

    name: str
    problem: str = ""


def readiness(archive: Archive) -> list[Check]:
    """Ask everything that a store needs; takes milliseconds when all is well, seconds at most."""
    absence = archive.absence
    checks = [
        Check("disk", "" if absence else archive.space.shortage),
        Check("objects", absence or _problem(lambda: _write_in(archive.incoming_dir))),
        Check("data folder", _problem(lambda: _write_in(archive.data_dir))),
        Check("index", _problem(lambda: _ask_index(archive))),
    ]
    if archive.files.is_remote:
        checks.append(Check("bucket", _problem(lambda: _ask_bucket(archive))))
    return checks


def _ask_bucket(archive: Archive) -> None:
    if not archive.files.exists(BUCKET_IDENTITY):
        raise OSError(f"the object {BUCKET_IDENTITY} is missing: it is not the archive's bucket")


def _problem(question: Callable[[], object]) -> str:
    try:
        question()
    except OSError as error:
        return error.strerror or str(error) or "the system gives no reason"
    except SQLAlchemyError as error:
        return reason_of(error)
    return ""


def _write_in(folder: Path) -> None:
    """Write a file and remove it; one that a crash leaves is written over the next time."""
    path = folder / "probe.part"
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o640)
    try:
        os.write(descriptor, b"lfscp\n")
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
        path.unlink(missing_ok=True)


def _ask_index(archive: Archive) -> None:
    """Read a row of each table, and begin to write."""
    with archive.index.engine.connect() as connection:
        for statement in _limits(connection.dialect.name):
            connection.exec_driver_sql(statement)
        for table in TABLES.values():
            connection.execute(select(table.c.id).order_by(table.c.id.desc()).limit(1)).first()
        # No row is changed, but the database must let us write to find that out.
        unchanged = update(study).where(false()).values(study_instance_uid="")
        try:
            connection.execute(unchanged)
        finally:
            connection.rollback()
            connection.invalidate()  # the next query opens a new one, with the usual limits


def _limits(dialect: str) -> tuple[str, ...]:
    """Statements that keep a connection from waiting longer than PATIENCE_MS for others."""
    if dialect == "sqlite":
        return (f"PRAGMA busy_timeout = {PATIENCE_MS}",)
    return (
        f"SET LOCAL lock_timeout = {PATIENCE_MS}",
        f"SET LOCAL statement_timeout = {2 * PATIENCE_MS}",
    )
