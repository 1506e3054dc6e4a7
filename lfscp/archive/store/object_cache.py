"""Local copies of remote objects, up to a bound; the longest unread leave first.

Rules: a name in the cache stands for a whole copy of one content, for its version is part of what
the name is made from; copies come by a link or not at all. Several processes may share the folder.
Copies are not synced, so all are dropped when the machine has been started since. A copy that was
read in the last seconds stays even above the bound, since somebody may be about to open it. The
bound is lower on a disk with little room: copies leave half of what they could have to others.
"""

# ruff: noqa: PTH103, PTH108, PTH116 - pathlib costs as much as the system call

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import itertools
import os
import shutil
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from lfscp.archive.errors import ArchiveError
from lfscp.archive.store.files import INCOMING

_BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")
_KEPT_PART: Final = 0.9  # of the bound, when it is passed
_COUNT_AGAIN_PART: Final = 16  # what a process may add unseen by the others: this part of the bound
_IN_USE_S: Final = 10.0


class ObjectCache:
    """A folder of copies. Any thread may call any method.

    Args:
        folder: made when missing.
        max_bytes: of all copies; 0 keeps none longer than they are in use.
        is_ours: nobody else uses the folder yet, so what is half-fetched was left by a crash.
    Raises:
        ArchiveError: the folder cannot be made or written to.
    """

    def __init__(self, folder: Path, max_bytes: int, *, is_ours: bool = True) -> None:
        self.folder = folder
        self.incoming = folder / INCOMING
        self._copies = folder / "copies"
        self._max_bytes = max_bytes
        self._bound = max_bytes  # or less, as the disk was when the copies were counted
        self._numbers = itertools.count()
        self._lock = threading.Lock()
        self._added = -1  # bytes since the copies were counted; -1 before the first time
        try:
            if is_ours:
                shutil.rmtree(self.incoming, ignore_errors=True)
                self._drop_unsynced()
            self._copies.mkdir(parents=True, exist_ok=True)
            self.incoming.mkdir(exist_ok=True)
        except OSError as error:
            raise ArchiveError(
                "open the cache of objects",
                f"{error.strerror}: {folder}",
                "give the user of the node the right to write there",
            ) from None

    def _drop_unsynced(self) -> None:
        """Drop copies that a crash of the machine may have left in part."""
        boot_id = _BOOT_ID.read_text("ascii") if _BOOT_ID.exists() else ""
        noted = self.folder / "boot-id"
        if not boot_id or not noted.exists() or noted.read_text("ascii") != boot_id:
            shutil.rmtree(self._copies, ignore_errors=True)
        self.folder.mkdir(parents=True, exist_ok=True)
        noted.write_text(boot_id, "ascii")

    def new_piece(self) -> str:
        """The path of a file to write a copy into, on the cache's file system."""
        return f"{self.incoming}/copy-{os.getpid()}-{next(self._numbers)}.part"

    def find(self, name: str) -> str | None:
        """The path of a copy, which counts as read now; None when there is none."""
        path = self._path(name)
        try:
            os.utime(path)
        except OSError:
            return None
        return path

    def add(self, piece: str, name: str, size: int) -> str:
        """Keep a complete file as a copy; the file's own name stays.

        Returns:
            The copy's path, or the file's own when it cannot be kept: that costs time later,
            and nothing else.
        """
        if size > self._bound:
            return piece
        path = self._path(name)
        try:
            try:
                os.link(piece, path)
            except FileNotFoundError:
                os.makedirs(os.path.dirname(path), mode=0o750, exist_ok=True)  # noqa: PTH120
                os.link(piece, path)
        except FileExistsError:
            return path
        except OSError:
            return piece
        self._count(size)
        return path

    def drop(self, name: str) -> None:
        """Remove a copy."""
        with contextlib.suppress(OSError):
            os.unlink(self._path(name))

    def _path(self, name: str) -> str:
        hashed = hashlib.sha256(name.encode()).hexdigest()
        return f"{self._copies}/{hashed[:2]}/{hashed[2:40]}"

    def _count(self, size: int) -> None:
        with self._lock:
            if 0 <= self._added < self._bound // _COUNT_AGAIN_PART:
                self._added += size
                return
            self._added = 0
        self.shrink()

    def shrink(self) -> None:
        """Remove the longest unread copies while there are too many, unless another does."""
        descriptor = os.open(self.folder / "shrinking", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._shrink()
        except BlockingIOError:
            return
        finally:
            os.close(descriptor)

    def _shrink(self) -> None:
        found = sorted(self._walk())
        total = sum(size for _, size, _ in found)
        self._bound = min(self._max_bytes, (total + self._free()) // 2)
        if total <= self._bound:
            return
        unused_since = time.time() - _IN_USE_S
        for read_at, size, path in found:
            if total <= self._bound * _KEPT_PART or read_at > unused_since:
                return
            with contextlib.suppress(OSError):
                os.unlink(path)
            total -= size

    def _free(self) -> int:
        """Bytes that the file system has left for this user."""
        state = os.statvfs(self._copies)
        return state.f_bavail * state.f_frsize

    def _walk(self) -> Iterator[tuple[float, int, str]]:
        """Every copy: when it was read last, its size and path."""
        for folder, _, names in os.walk(self._copies):
            for name in names:
                path = f"{folder}/{name}"
                with contextlib.suppress(OSError):
                    state = os.stat(path)
                    yield state.st_mtime, state.st_size, path
