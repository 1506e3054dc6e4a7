"""Keeps in the index the identity of the place of its objects."""

from __future__ import annotations

import sqlite3
from contextlib import closing, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

from sqlalchemy import insert, select
from sqlalchemy.exc import IntegrityError, SQLAlchemyError

from lfscp.archive.errors import ArchiveError
from lfscp.archive.index.tables.maintenance_tables import holder_of, maintenance
from lfscp.archive.index.tables.schema import instance
from lfscp.archive.store.identity import Known

if TYPE_CHECKING:
    from lfscp.archive.index.index import Index

_TASK: Final = "objects"  # its row in the table, whose holder is the identity
_SAMPLED: Final = 10  # of the first objects of the index, and as many of the last


def known(index: Index) -> Known:
    """Ask an index.

    Raises:
        ArchiveError: it cannot be read.
    """
    identity = select(maintenance.c.holder).where(maintenance.c.task == _TASK)
    path = select(instance.c.path)
    ends = (path.order_by(order).limit(_SAMPLED) for order in (instance.c.id, instance.c.id.desc()))
    try:
        with index.engine.connect() as connection:
            sample = [each for end in ends for each in connection.execute(end).scalars()]
            bound = connection.execute(identity).scalar() or ""
    except SQLAlchemyError as error:
        raise index.cannot("read the index", error) from None
    return Known(bound, tuple(dict.fromkeys(sample)))


def known_by_file(index: Path) -> str:
    """The identity that an SQLite index knows; empty when it knows none, or cannot be read."""
    with (
        suppress(sqlite3.Error),
        closing(sqlite3.connect(f"file:{index}?mode=ro", uri=True)) as connection,
    ):
        return holder_of(connection, _TASK)
    return ""


def bind(index: Index, identity: str) -> None:
    """Let an index know the place of its objects.

    Raises:
        ArchiveError: another node has told it of another place.
        SQLAlchemyError, OSError: the index cannot be written to.
    """
    if known(index).identity == identity:
        return
    with suppress(IntegrityError), index.writing() as connection:
        row = {"task": _TASK, "holder": identity}
        connection.execute(insert(maintenance).values(row))
    if known(index).identity != identity:
        raise ArchiveError(
            "open the archive",
            "another node that shares the index has its objects in another place",
            "give both the same objects.url, and mount the same volume there",
        )
