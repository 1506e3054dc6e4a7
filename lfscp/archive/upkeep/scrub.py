"""Reads every stored object again and again, slowly, and compares it with its digest.

Rules: it reads at most so many bytes a second, and one buffer of memory is enough. It reads from
the disk, not from the system's cache. An object that seems damaged is read a second time. A damaged
object's file is put aside, so that it is not served as if it were sound; one that cannot be read is
left to the administrator. The index keeps how far the scrub is, so that a restart goes on there.
"""

from __future__ import annotations

import os
import threading
import time
from typing import TYPE_CHECKING, Any, Final

from lfscp.archive.store.object_store import StoredFile
from lfscp.archive.upkeep.check import Difference, compare
from lfscp.archive.upkeep.quarantine import is_aside, put_aside
from lfscp.archive.upkeep.task_lease import Turn
from lfscp.observe import metrics
from lfscp.observe.logging import get_logger

if TYPE_CHECKING:
    from lfscp.archive.archive import Archive

LOG: Final = get_logger("lfscp.archive")
TASK: Final = "scrub"
MEGABYTE: Final = 1_000_000
_ROWS: Final = 100  # at a time
_NOTE_S: Final = 60.0  # how often the index is told how far the scrub is
_LEAST_BYTES: Final = 64 * 1024  # an object counts as so many, since opening it costs as well


class Scrub:
    """One pass after another over all objects; for one thread of one process.

    Args:
        mb_s: how fast, in megabytes per second.
        stopping: ends a pass between two reads.
    """

    def __init__(self, archive: Archive, mb_s: float, stopping: threading.Event) -> None:
        self._archive = archive
        self._bytes_s = mb_s * MEGABYTE
        self._stopping = stopping
        self._turn = Turn(archive, TASK)
        self._sound = metrics.SCRUBBED_INSTANCES.of("sound")
        self._damaged = metrics.SCRUBBED_INSTANCES.of("damaged")
        self._position = 0
        self._note_at = self._due = 0.0

    def run(self) -> bool:
        """Go on where the scrub stopped, to the end; False when another node is at it.

        Raises:
            SQLAlchemyError, OSError: the index cannot be read or written to.
            ArchiveError: the objects' volume is not there.
        """
        position = self._turn.take()
        if position is None:
            return False
        self._position = position
        self._due = time.monotonic()
        self._note_at = self._due + _NOTE_S
        try:
            while rows := self._archive.index.placements(after=self._position, limit=_ROWS):
                for row in rows:
                    self._examine(row)
                    self._position = row.id
            self._position = 0
        except _StoppedError:
            pass
        self._turn.give_up(self._position)
        return True

    def _examine(self, row: Any) -> None:
        path = self._archive.files.path(row.path)
        self._pause(_LEAST_BYTES)
        found = self._compare(path, row)
        if found is None:
            self._sound.add()
        elif self._is_current(row):
            self._archive.require_present("read the objects again")
            self._confirm(path, row)

    def _compare(self, path: StoredFile, row: Any) -> tuple[Difference, str] | None:
        _forget_cached(path)
        return compare(path, row, pause=self._pause)

    def _is_current(self, row: Any) -> bool:
        """Whether the index still says so: the object was neither deleted nor replaced."""
        now = self._archive.index.find(row.sop_instance_uid)
        return now is not None and (now.path, now.digest) == (row.path, row.digest)

    def _confirm(self, path: StoredFile, row: Any) -> None:
        found = self._compare(path, row)
        if found is None:
            LOG.warning("object was read wrongly once", sop_instance_uid=row.sop_instance_uid)
            return
        existing = self._archive.index.find(row.sop_instance_uid)
        if existing is None or existing.path != row.path:
            return
        self._damaged.add()
        problem, detail = found
        LOG.error(
            "object damaged",
            study_instance_uid=existing.study_uid,
            series_instance_uid=existing.series_uid,
            sop_instance_uid=row.sop_instance_uid,
            problem=problem.value,
            **({"reason": detail} if detail else {}),
            action=self._put_aside(row.path, problem),
        )

    def _put_aside(self, path: str, problem: Difference) -> str:
        if problem is Difference.UNREADABLE:
            return "left as it is, look at the disk"
        if problem is Difference.MISSING:
            aside = "is in quarantine" if is_aside(self._archive, path) else "is nowhere"
            return f"{aside}, send it again or restore it"
        try:
            return f"moved to {put_aside(self._archive, path)}, send it again or restore it"
        except OSError as error:
            return f"could not be put aside: {error.strerror}"

    def _pause(self, count: int) -> None:
        """Wait as long as so many bytes take at our speed; _StoppedError when the node ends."""
        metrics.SCRUBBED_BYTES.add(count)
        now = time.monotonic()
        self._due = max(self._due, now - 1.0) + count / self._bytes_s  # no racing after a stall
        if self._stopping.wait(max(0.0, self._due - now)):
            raise _StoppedError
        if now >= self._note_at:
            self._note_at = now + _NOTE_S
            self._turn.keep(self._position)


class _StoppedError(Exception):
    """The node ends while an object is read."""


def _forget_cached(path: StoredFile) -> None:
    """Have the next read come from the disk, as far as the system likes."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return  # the comparison says why
    try:
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(descriptor)
