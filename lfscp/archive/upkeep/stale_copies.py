"""Removes what this node keeps of objects that are gone: pictures, metadata, copies from a bucket.

Rules: each node does this for its own data folder, because another node of the same index deletes
there no file. What cannot be read is stale too.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Final

from sqlalchemy import select

from lfscp.archive.index.tables.schema import instance
from lfscp.archive.store.disk_cache import files_of
from lfscp.archive.store.kept_beside import METADATA, PICTURES, uid_in
from lfscp.archive.store.series_cache import series_in

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from lfscp.archive.archive import Archive
    from lfscp.archive.index.lookups import Lookups

_AT_ONCE: Final = 500  # UIDs in one question


def remove_stale(archive: Archive, is_stopping: Callable[[], bool] = lambda: False) -> int:
    """Remove them; returns how many files.

    Raises:
        ArchiveError, SQLAlchemyError: the index cannot be read.
    """
    removed = 0
    with archive.index.engine.connect() as connection:
        for folder, stale in _folders(archive, connection):
            for path in stale(files_of(folder)):
                if is_stopping():
                    return removed
                with contextlib.suppress(OSError):
                    path.unlink()
                    removed += 1
    return removed


def _folders(
    archive: Archive, connection: Connection
) -> Iterator[tuple[Path, Callable[[Iterator[Path]], Iterator[Path]]]]:
    without_object = partial(_without_object, connection)
    yield archive.data_dir / METADATA, partial(_old_metadata, archive.index.lookups)
    yield archive.data_dir / PICTURES, without_object
    if archive.files.is_remote:
        yield archive.files.root, without_object  # copies of objects in the bucket


def _old_metadata(lookups: Lookups, paths: Iterator[Path]) -> Iterator[Path]:
    for path in paths:
        found = series_in(path)
        if found is None or lookups.version_of(*found[:2]) != found[2]:
            yield path


def _without_object(connection: Connection, paths: Iterator[Path]) -> Iterator[Path]:
    while some := {path: uid_in(path.name) for path in islice(paths, _AT_ONCE)}:
        wanted = instance.c.sop_instance_uid.in_(set(filter(None, some.values())))
        there = set(connection.scalars(select(instance.c.sop_instance_uid).where(wanted)))
        yield from (path for path, uid in some.items() if uid not in there)
