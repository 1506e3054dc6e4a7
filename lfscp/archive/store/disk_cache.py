"""Caches files on disk up to a bound; those unread for longest go first.

It serves copies of remote objects and rendered pictures.

Rules: a name stands for one content, so what may change is part of the name; a file is kept by a
link, whole or not at all. Several processes may share the folder. Files are not synced, so all are
dropped when the machine has been started since. One that was read a moment ago may stay even above
the bound, since somebody may be about to open it. The bound is lower on a disk with little room:
half of what the cache could have stays free for others.
"""

# ruff: noqa: PTH103, PTH108, PTH116 - pathlib costs as much as the system call

from __future__ import annotations

import contextlib
import fcntl
import glob
import hashlib
import itertools
import os
import secrets
import shutil
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from lfscp.archive.errors import not_writable
from lfscp.archive.store.files import INCOMING
from lfscp.observe.processes import boot_id_of_machine

_KEPT_PART: Final = 0.9  # of the bound, when there is too much
_UNSEEN_PART: Final = 16  # what a process adds before it counts again: this part of the bound
_IN_USE_S: Final = 10.0
_COPIES: Final = "copies"


def _place(folder: Path, name: str) -> str:
    hashed = hashlib.sha256(name.encode()).hexdigest()
    return f"{folder}/{_COPIES}/{hashed[:2]}/{hashed[2:40]}"


def drop_from(folder: Path, name: str) -> None:
    """Remove all files of that name from the cache in a folder, which other processes may use."""
    for path in glob.iglob(f"{glob.escape(_place(folder, name))}*"):  # noqa: PTH207
        with contextlib.suppress(OSError):
            os.unlink(path)


def files_of(folder: Path) -> Iterator[Path]:
    """Every file that the cache in a folder keeps; none if there is no such folder."""
    for parent, _, names in os.walk(folder / _COPIES):
        yield from (Path(parent) / name for name in names)


class DiskCache:
    """A folder of files. Any thread may call any method.

    Args:
        folder: made when missing.
        max_bytes: of all files; 0 keeps none longer than they are in use.
        is_ours: no other process uses the folder yet, so a crash left the half-written files.
        in_use_s: how long a file stays after it was read, whatever the bound.
    Raises:
        ArchiveError: the folder cannot be made or written to.
    """

    def __init__(
        self, folder: Path, max_bytes: int, *, is_ours: bool = True, in_use_s: float = _IN_USE_S
    ) -> None:
        self.folder = folder
        self.incoming = folder / INCOMING
        self._copies = folder / _COPIES
        self._max_bytes = max_bytes
        self._bound = max_bytes  # or less, as the disk was when the files were counted
        self._in_use_s = in_use_s
        self._numbers = itertools.count()
        self._life = secrets.token_hex(4)  # another container's process may have the same number
        self._lock = threading.Lock()
        self._added = max_bytes  # bytes since the files were counted: as good as never
        try:
            if is_ours:
                shutil.rmtree(self.incoming, ignore_errors=True)
                self._drop_unsynced()
            self._copies.mkdir(parents=True, exist_ok=True)
            self.incoming.mkdir(exist_ok=True)
        except OSError as error:
            raise not_writable("open a cache on disk", error, folder) from None

    def _drop_unsynced(self) -> None:
        """Drop files that a crash of the machine may have left in part."""
        boot_id = boot_id_of_machine()
        noted = self.folder / "boot-id"
        if not boot_id or not noted.exists() or noted.read_text("ascii").strip() != boot_id:
            shutil.rmtree(self._copies, ignore_errors=True)
        self.folder.mkdir(parents=True, exist_ok=True)
        noted.write_text(boot_id, "ascii")

    def new_piece(self) -> str:
        """The path of a file to write into, on the cache's file system."""
        return f"{self.incoming}/copy-{self._life}-{os.getpid()}-{next(self._numbers)}.part"

    def find(self, name: str, part: str = "") -> str | None:
        """The path of a file, which counts as read now; None when there is none."""
        path = self._path(name, part)
        try:
            os.utime(path)
        except OSError:
            return None
        return path

    def add(self, piece: str, name: str, size: int, part: str = "") -> str:
        """Keep a complete file; its own name stays.

        Args:
            part: which of the files of that name it is, when there are several.
        Returns:
            Where it is kept, or the file's own path when it cannot be: that costs time later,
            and nothing else.
        """
        if size > self._bound:
            return piece
        path = self._path(name, part)
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
        with self._lock:
            self._added += size
            if self._added < self._bound // _UNSEEN_PART:
                return path
            self._added = 0
        self.shrink()
        return path

    def drop(self, name: str) -> None:
        """Remove all files of that name."""
        drop_from(self.folder, name)

    def _path(self, name: str, part: str = "") -> str:
        return f"{_place(self.folder, name)}{part}"

    def shrink(self) -> None:
        """Remove the longest unread files while there are too many, unless another does."""
        with contextlib.suppress(OSError):
            descriptor = os.open(self._copies, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                self._shrink()
            finally:
                os.close(descriptor)

    def _shrink(self) -> None:
        found = sorted(self._walk())
        total = sum(size for _, size, _ in found)
        self._bound = min(self._max_bytes, (total + self._free()) // 2)
        if total <= self._bound - self._bound // _UNSEEN_PART:
            return
        unused_since = time.time() - self._in_use_s
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
        """Every file: when it was read last, its size and path."""
        for folder, _, names in os.walk(self._copies):
            for name in names:
                path = f"{folder}/{name}"
                with contextlib.suppress(OSError):
                    state = os.stat(path)
                    yield state.st_mtime, state.st_size, path
