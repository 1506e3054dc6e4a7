"""Copies an index, also while a node writes to it, and says what objects a copy has."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, Final, NamedTuple

from sqlalchemy import create_engine, true

from lfscp.archive.index.database.database import sqlite_url
from lfscp.archive.index.removal import prune

_ROWS: Final = 1000  # at a time
_COLUMNS: Final = (
    "id, sop_instance_uid, path, dataset_offset, file_size, digest, sop_class_uid,"
    " transfer_syntax_uid"
)


class Row(NamedTuple):
    """An instance's row of an index: `_COLUMNS`."""

    id: int
    sop_instance_uid: str
    path: str
    dataset_offset: int
    file_size: int
    digest: str
    sop_class_uid: str
    transfer_syntax_uid: str


class Kept(NamedTuple):
    """A row of the index about an object that is kept as it was before a change."""

    id: int
    path: str
    dataset_offset: int
    file_size: int
    digest: str


def rows_of(connection: sqlite3.Connection) -> Iterator[Row]:
    """The instances of an index, in pieces, so that nothing is held for long."""
    last = 0
    wanted = f"SELECT {_COLUMNS} FROM instance WHERE id > ? ORDER BY id LIMIT {_ROWS}"  # noqa: S608 - our own text
    while rows := connection.execute(wanted, (last,)).fetchall():
        yield from map(Row._make, rows)
        last = rows[-1][0]


def kept_of(connection: sqlite3.Connection) -> list[Kept]:
    """The objects of an index that are kept as they were; none in one of an older version."""
    known = "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'kept_object'"
    if connection.execute(known).fetchone() is None:
        return []
    wanted = "SELECT id, path, dataset_offset, file_size, digest FROM kept_object"
    return [Kept(*row) for row in connection.execute(wanted)]


def connect(index: Path) -> sqlite3.Connection:
    """A connection to a node's index that changes nothing."""
    return sqlite3.connect(f"{index.resolve().as_uri()}?mode=ro", uri=True, timeout=60)


def copy_index(index: Path, target: Path) -> None:
    """Copy an index as it is at one moment, also while a node writes to it.

    Raises:
        sqlite3.Error: it cannot be read, or it is damaged.
    """
    for end in ("", "-wal", "-shm", "-journal"):
        Path(f"{target}{end}").unlink(missing_ok=True)
    with closing(connect(index)) as source, closing(sqlite3.connect(target)) as copied:
        source.backup(copied)
        (found,) = copied.execute("PRAGMA quick_check(1)").fetchone()
        if found != "ok":
            raise sqlite3.DatabaseError(f"the index is damaged: {found.splitlines()[0]}")
    os.chmod(target, 0o640)  # noqa: PTH101


def drop_empty_rows(index: Path) -> None:
    """Remove the series, studies and patients of a copy that have no objects."""
    engine: Any = create_engine(sqlite_url(index))
    with engine.begin() as connection:
        prune(connection, true())
    engine.dispose()
