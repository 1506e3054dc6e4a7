"""The tables of the archive's upkeep: protected studies, files to remove and to sync, tasks.

`protection` names studies by UID and not by row, so that adding a study costs what it did.
`removal` names the files of rows that were deleted or replaced: written with that and emptied when
the files are gone, it tells after a crash which files are left. `maintenance` has a row per task
(retention, scrub): where it goes on, and which node is at it, since nodes may share an index; and
the names of the archive and of its objects' place. `unread_study` has the studies whose objects
have to be read, since the index cannot tell their patient; see reindexing.py. `unsynced_object` has
the bytes of files that are not synced yet; see late_sync.py.
"""

from __future__ import annotations

import os
import secrets
import sqlite3
from contextlib import suppress
from typing import Final

from sqlalchemy import BigInteger, Column, Integer, LargeBinary, Table, Text

from lfscp.archive.index.tables.schema import KEY, metadata

protection: Final = Table(
    "protection",
    metadata,
    Column("study_instance_uid", Text, primary_key=True),
    Column("protected_at", BigInteger, nullable=False),
)

# What is to be done with an unread study.
FIRST_OBJECT, EACH_FOLDER, EVERY_OBJECT = range(3)

removal: Final = Table(
    "removal",
    metadata,
    Column("path", Text, primary_key=True),  # as in instance
    Column("removed_at", BigInteger, nullable=False),
)

maintenance: Final = Table(
    "maintenance",
    metadata,
    Column("task", Text, primary_key=True),
    Column("position", BigInteger, nullable=False, server_default="0"),
    Column("holder", Text, nullable=False, server_default=""),
    Column("held_until", BigInteger, nullable=False, server_default="0"),
)

unread_study: Final = Table(
    "unread_study",
    metadata,
    Column("study_fk", KEY, primary_key=True, autoincrement=False),
    Column("step", Integer, nullable=False, server_default="0"),  # the next one
)


unsynced_object: Final = Table(
    "unsynced_object",
    metadata,
    Column("id", KEY, primary_key=True),
    Column("writer", Text, nullable=False),  # the process that syncs it: its `writer_name`
    Column("path", Text, nullable=False),  # as in instance
    Column("content", LargeBinary, nullable=False),  # of the file
)


_writer = [secrets.token_hex(8)]


def _be_another_writer() -> None:
    _writer[0] = secrets.token_hex(8)


os.register_at_fork(after_in_child=_be_another_writer)


def writer_name() -> str:
    """This process, among all that ever write to an index: a process ID is another's one day."""
    return _writer[0]


def holder_of(connection: sqlite3.Connection, task: str) -> str:
    """The holder of a task in an SQLite index; empty when there is none, or it cannot be read."""
    with suppress(sqlite3.Error):
        wanted = "SELECT holder FROM maintenance WHERE task = ?"
        for (holder,) in connection.execute(wanted, (task,)):
            return str(holder)
    return ""
