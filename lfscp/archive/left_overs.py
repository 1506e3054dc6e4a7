"""Removes at the start what a crash has left of objects.

Pieces in the incoming folder; files that have their final name and no row; files of rows that were
deleted or replaced, as the table `removal` has them.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from lfscp.archive.index.kept_objects import kept_among
from lfscp.archive.store.files import instance_of, uids_of_piece
from lfscp.archive.store.object_store import ObjectStore, Piece
from lfscp.archive.store.received_objects import read_file_header
from lfscp.dicom.errors import DatasetError

if TYPE_CHECKING:
    from lfscp.archive.index.index import Index


def clear_incoming(files: ObjectStore, index: Index, *, may_judge: bool) -> None:
    """Remove what a crash left: pieces, files placed but never committed, replaced ones.

    Args:
        may_judge: the index was there before. A new one knows none of the files that stay.
    """
    for piece in files.pieces():
        try:
            if may_judge and piece.stat().st_nlink > 1:  # placed under its final name
                _clear_placed(files, index, piece)
        except (DatasetError, OSError):
            pass  # lfscp has not placed it; `lfscp check` reports it
        files.discard(Piece(str(piece), 0))


def _clear_placed(files: ObjectStore, index: Index, piece: Path) -> None:
    uids = uids_of_piece(piece.name) or read_file_header(piece).uids
    row = index.find(uids[2])
    names = files.names_of(*uids)
    with index.engine.connect() as connection:
        kept = kept_among(connection, names)
    names = [name for name in names if name not in kept]
    same = {name for name in names if os.path.samefile(files.path(name), piece)}  # noqa: PTH121
    for name in names:
        is_replaced = row is not None and row.path in same
        if (row is None or name != row.path) and (name in same or is_replaced):
            files.remove(name)


def remove_unused(
    files: ObjectStore, index: Index, paths: Sequence[str], before_ms: int | None
) -> list[str]:
    """Remove the files of rows that are gone.

    Args:
        before_ms: newer files stay, since other nodes may write them; None without other nodes.
    Returns:
        The paths that are done: their files are gone, or have a row again, or are kept.
    """
    rows = {path: index.find(instance_of(path)) for path in paths}
    again = {path for path, row in rows.items() if row is not None and row.path == path}
    with index.engine.connect() as connection:
        again |= kept_among(connection, paths)
    unused = [path for path in paths if path not in again]
    gone: list[str] = []
    if before_ms is not None:
        unused, gone = _older(files, unused, before_ms)
    return [*gone, *files.remove_all(unused), *again]


def _older(files: ObjectStore, paths: Sequence[str], than_ms: int) -> tuple[list[str], list[str]]:
    """Those of the objects that are older than a time, and those that are gone.

    A newer one has taken the name of one that was removed, and its row may be on its way.
    """
    older, gone = [], []
    for path in paths:
        try:
            if files.path(path).stat().st_mtime * 1000 < than_ms:
                older.append(path)
        except FileNotFoundError:
            gone.append(path)
        except OSError:
            continue  # the next time
    return older, gone
