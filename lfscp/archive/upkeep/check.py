"""Compares index and objects, both ways, and mends what differs when asked to.

Rules: nothing is destroyed: a file that cannot be kept where it is goes to the quarantine
folder beside the index. Memory is bounded: rows and files are walked in pieces. Each finding
is reported as it is met, with its repair.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any, Final

from sqlalchemy import select

from lfscp.archive.archive import Archive
from lfscp.archive.index.kept_objects import kept_among
from lfscp.archive.index.rows import Existing
from lfscp.archive.index.tables.maintenance_tables import removal
from lfscp.archive.store.digest import DEFAULT_ALGORITHM, algorithm_of, digest_of_file
from lfscp.archive.store.files import instance_of
from lfscp.archive.store.object_store import Placement, StoredFile
from lfscp.archive.store.received_objects import read_file_header
from lfscp.archive.store.stored_head import fault_in_file, read_head
from lfscp.archive.upkeep.quarantine import is_aside, put_aside
from lfscp.dicom.errors import DatasetError
from lfscp.dicom.part10.file_head import Expected
from lfscp.dicom.reading.header import Header

YOUNG_S: Final = 600.0  # a store ends long before, with its row
_ROWS: Final = 1000  # at a time


class Difference(Enum):
    """How an object and its row can differ."""

    MISSING = "missing"  # a row without its file
    LEFT_OVER = "left over"  # a file without a row
    WRONG_SIZE = "wrong size"
    WRONG_META = "wrong file meta information"
    WRONG_DIGEST = "wrong digest"
    UNREADABLE = "unreadable"  # the file is there but reading it fails


@dataclass(frozen=True, slots=True)
class Finding:
    """One difference between index and objects.

    Args:
        path: of the file, relative to the objects folder.
        detail: what exactly differs; may be empty.
        action: what the repair did; empty when none was asked for.
        repaired: index and objects agree about this one again.
    """

    problem: Difference
    path: str
    detail: str = ""
    action: str = ""
    repaired: bool = False

    def __str__(self) -> str:
        detail = f" ({self.detail})" if self.detail else ""
        action = f": {self.action}" if self.action else ""
        return f"{self.problem.value}: {self.path}{detail}{action}"


def check(archive: Archive, *, repair: bool = False, young_s: float = 0.0) -> Iterator[Finding]:
    """Compare the index with the objects on disk.

    Args:
        young_s: files without a row that are younger, in seconds, are left alone, as their rows
            may be on their way; 0 if nothing is stored or deleted meanwhile.
        repair: remove rows whose file is missing; index left-over files again when they are
            readable and their instance is in no other file, otherwise move them to quarantine;
            move damaged files there and remove their rows, so that they can be sent again.
    """
    yield from _check_rows(archive, repair=repair)
    yield from _check_files(archive, repair=repair, young_s=young_s)


def has_lost_index(archive: Archive) -> bool:
    """Whether the index is empty though the folder has objects; a bucket is not asked.

    Raises:
        ArchiveError: the index cannot be read.
    """
    if archive.files.is_remote:
        return False
    with archive.index.doing("read the index"):
        is_empty = not archive.index.placements(limit=1)
    return is_empty and next(archive.files.walk(), None) is not None


def _check_rows(archive: Archive, *, repair: bool) -> Iterator[Finding]:
    last = 0
    while rows := archive.index.placements(after=last, limit=_ROWS):
        for row in rows:
            found = compare(archive.files.path(row.path), row)
            if found is None:
                continue
            if not _is_row_still(archive, row):
                continue  # deleted or replaced since it was read
            problem, detail = found
            if problem is Difference.MISSING and is_aside(archive, row.path):
                detail = "it is damaged and in quarantine"
            action = _mend_row(archive, row, problem) if repair else ""
            repaired = repair and problem is not Difference.UNREADABLE
            yield Finding(problem, row.path, detail, action, repaired)
        last = rows[-1].id
    if repair:
        archive.index.prune()


def _is_row_still(archive: Archive, row: Any) -> bool:
    now = archive.index.find(row.sop_instance_uid)
    return now is not None and now.path == row.path


def compare(
    path: StoredFile, row: Any, *, pause: Callable[[int], None] | None = None
) -> tuple[Difference, str] | None:
    """Compare one file with its row: the difference and a detail, or None.

    Args:
        row: of `Index.placements`.
        pause: called with the number of bytes after each piece that was read.
    """
    try:
        size = path.stat().st_size
        if size != row.file_size or size - row.dataset_offset != row.size:
            return Difference.WRONG_SIZE, f"{size} bytes, the index says {row.file_size}"
        fault = fault_in_file(path, Expected.of(row))
        if fault:
            return Difference.WRONG_META, fault
        if row.digest:
            actual = digest_of_file(path, row.dataset_offset, algorithm_of(row.digest), pause=pause)
            if actual != row.digest:
                return Difference.WRONG_DIGEST, f"{actual}, the index says {row.digest}"
    except (FileNotFoundError, NotADirectoryError):
        return Difference.MISSING, ""
    except (OSError, ValueError) as error:  # ValueError: a digest of an unknown algorithm
        return Difference.UNREADABLE, str(getattr(error, "strerror", None) or error)
    return None


def _mend_row(archive: Archive, row: Any, problem: Difference) -> str:
    if problem is Difference.UNREADABLE:
        return "left as it is, look at the disk"
    archive.require_present("repair the archive")
    archive.index.forget(row.sop_instance_uid, row.path)
    if problem is Difference.MISSING:
        return "row removed"
    return f"row removed, moved to {put_aside(archive, row.path)}"


def _check_files(archive: Archive, *, repair: bool, young_s: float) -> Iterator[Finding]:
    for path in archive.files.walk():
        if _has_row(archive, path) or _is_kept(archive, path):
            continue
        if young_s and _may_be_on_its_way(archive, path, young_s):
            continue
        action = index_again(archive, path) if repair else ""
        yield Finding(Difference.LEFT_OVER, path, "", action, repair)


def _is_kept(archive: Archive, path: str) -> bool:
    """Whether a file holds an object as it was before it changed."""
    with archive.index.doing("read the index"), archive.index.engine.connect() as connection:
        return bool(kept_among(connection, [path]))


def _has_row(archive: Archive, path: str) -> bool:
    row = archive.index.find(instance_of(path))
    return row is not None and row.path == path


def _may_be_on_its_way(archive: Archive, path: str, young_s: float) -> bool:
    """Whether a file without a row is being stored, or removed, by somebody else."""
    try:
        age_s = time.time() - archive.files.path(path).stat().st_mtime
    except OSError:
        return True  # it is gone
    leaving = select(removal.c.path).where(removal.c.path == path)
    with archive.index.engine.connect() as connection:
        is_leaving = connection.execute(leaving).first() is not None
    return age_s < young_s or is_leaving or _has_row(archive, path)  # it may have got one since


def index_again(archive: Archive, path: str) -> str:
    """Give a file without a row its row again, or put it aside."""
    found = _read_again(archive, path)
    if isinstance(found, str):
        return f"moved to {put_aside(archive, path)}, {found}"
    if isinstance(archive.index.add(*found), Existing):
        return f"moved to {put_aside(archive, path)}, the instance is stored in another file"
    return "indexed again"


def fault_of_file(archive: Archive, path: str) -> str:
    """Why a file cannot have a row; empty when it can."""
    found = _read_again(archive, path)
    return found if isinstance(found, str) else ""


def _read_again(archive: Archive, path: str) -> tuple[Header, Placement] | str:
    """The row for a file, or why it can have none."""
    file = archive.files.path(path)
    try:
        header = read_file_header(file)
        placement = _placement(file, path)
        expected = Expected(
            header.sop_class_uid,
            header.sop_instance_uid,
            placement.transfer_syntax_uid,
            placement.dataset_offset,
        )
        fault = fault_in_file(file, expected)
    except (DatasetError, OSError) as error:
        return f"it cannot be read ({getattr(error, 'reason', None) or str(error)})"
    if fault:
        return f"its head is damaged ({fault})"
    if (*Path(path).parts[:2], instance_of(path)) != header.uids:
        return "it is not the object that its file name says"
    return header, placement


def _placement(file: StoredFile, path: str) -> Placement:
    with file.open("rb") as stream:
        meta = read_head(stream)
        size = os.fstat(stream.fileno()).st_size
    return Placement(
        path,
        meta.transfer_syntax_uid,
        meta.dataset_offset,
        size - meta.dataset_offset,
        size,
        digest_of_file(file, meta.dataset_offset, DEFAULT_ALGORITHM),
        meta.source_ae_title,
    )
