"""Gives an archive a name of its own, so that its backup never overwrites another archive's.

The index keeps the name. So a backup and what is restored from it have the name too, and a new,
empty index in the place of a lost one has another.
"""

from __future__ import annotations

import sqlite3
import uuid
from typing import TYPE_CHECKING, Final

from sqlalchemy import Connection, insert, select, update

from lfscp.archive.index.tables.maintenance_tables import holder_of, maintenance

if TYPE_CHECKING:
    from lfscp.archive.index.index import Index

_TASK: Final = "archive"  # its row in the table, whose holder is the archive
_IDENTITY: Final = select(maintenance.c.holder).where(maintenance.c.task == _TASK)


def name_archive(index: Index) -> None:
    """Give the archive of an index its name, if it has none.

    Raises:
        SQLAlchemyError, OSError: the index cannot be read or written to.
    """
    with index.engine.connect() as connection:
        if connection.execute(_IDENTITY).first() is not None:
            return
    with index.writing() as connection:
        connection.execute(insert(maintenance).values(task=_TASK, holder=uuid.uuid4().hex))


def keep_name(connection: Connection, identity: str) -> None:
    """Give an index the name of the one in whose place it comes, if that had one."""
    if identity:
        row = update(maintenance).where(maintenance.c.task == _TASK)
        connection.execute(row.values(holder=identity))


def archive_id(connection: sqlite3.Connection) -> str:
    """The name in an SQLite index; empty when it has none, or cannot be read."""
    return holder_of(connection, _TASK)
