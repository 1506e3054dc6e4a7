"""Puts a backup into an empty data folder, so that a node can go on with it.

Rules: a mark stands in the data folder from the beginning to the end, and no node opens a folder
that has it; a restore that was cut off goes on when it is run again. The index comes last.
"""

from __future__ import annotations

import itertools
import os
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from lfscp.archive.data_folder import RESTORING, lock_folder
from lfscp.archive.durability import PART, sync_file, sync_folder, write_whole
from lfscp.archive.errors import ArchiveError
from lfscp.archive.index.objects_identity import known_by_file
from lfscp.archive.store.files import ObjectFiles
from lfscp.archive.store.identity import FolderPlace
from lfscp.archive.upkeep.copying import Copier
from lfscp.archive.upkeep.index_copy import connect, kept_of, rows_of
from lfscp.archive.upkeep.manifest import OBJECTS, Manifest, read_manifest


def restore(
    backup: Path,
    data_dir: Path,
    *,
    index: Path,
    objects: Path,
    link: bool = False,
    tell: Callable[[str], None] = lambda _: None,
) -> Manifest:
    """Fill an empty data folder from a backup.

    Args:
        backup: the folder that `backup.backup` made.
        data_dir: made when missing; locked meanwhile.
        index: the file that the node looks for its index in.
        objects: the folder that it looks for objects in.
        link: link the objects where the file system can, instead of copying them.
        tell: called with a line for each object that the backup lacks.
    Returns:
        The backup's manifest.
    Raises:
        ArchiveInUseError: a node has the data folder.
        ArchiveError: there is no complete backup, or the folders are not empty.
    """
    manifest = read_manifest(backup)
    lock = lock_folder(data_dir)
    try:
        mark = data_dir / RESTORING
        if not mark.exists():
            _require_empty(index, objects)
            write_whole(mark, f"from {backup}\n")
        _bring_objects(backup, manifest, objects, link=link, tell=tell)
        identity = known_by_file(backup / manifest.index)
        if identity:
            FolderPlace(objects).replace(identity)
        _bring_index(backup / manifest.index, index)
        mark.unlink()
        sync_folder(data_dir)
    except OSError as error:
        where = f": {error.filename}" if error.filename else ""
        hint = "run it again to go on"
        raise ArchiveError("restore", f"{error.strerror}{where}", hint) from None
    except sqlite3.Error as error:
        raise ArchiveError("restore", f"{error}") from None
    finally:
        os.close(lock)
    return manifest


def _require_empty(index: Path, objects: Path) -> None:
    taken = (
        index if index.exists() else objects if next(ObjectFiles(objects).walk(), None) else None
    )
    if taken is not None:
        raise ArchiveError(
            "restore",
            f"{taken} is there already",
            "restore into an empty data_dir, or move it away",
        )


def _bring_objects(
    backup: Path, manifest: Manifest, objects: Path, *, link: bool, tell: Callable[[str], None]
) -> None:
    copier = Copier(may_link=link)
    with closing(connect(backup / manifest.index)) as rows:
        kept = [each.path for each in kept_of(rows)]
        for path in itertools.chain((row.path for row in rows_of(rows)), kept):
            source, target = backup / OBJECTS / path, objects / path
            try:
                if not copier.is_there(source, target):
                    copier.bring(source, target)
            except FileNotFoundError:
                tell(f"{path}: missing")
    copier.sync()


def _bring_index(source: Path, target: Path) -> None:
    part = target.with_name(target.name + PART)
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, part)
    part.chmod(0o640)
    sync_file(part)
    part.replace(target)
    sync_folder(target.parent)
