"""Rendered pictures on disk: a folder per object, named by a digest of its UID.

Rules: the longest unused leave first when there are too many bytes; a full disk costs the cache,
not the answer.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import shutil
import tempfile
import threading
from pathlib import Path
from typing import BinaryIO, Final, cast

_KEEP: Final = 0.8  # of the bound, when it is passed


class PictureCache:
    """The pictures of one node. Any thread may call any method.

    Args:
        folder: made when needed.
        max_bytes: 0 keeps nothing.
    """

    def __init__(self, folder: Path, max_bytes: int) -> None:
        self._folder = folder
        self._max_bytes = max_bytes
        self._lock = threading.Lock()
        self._bytes = -1  # not counted yet

    def _of(self, uid: str) -> Path:
        return self._folder / hashlib.sha256(uid.encode()).hexdigest()[:32]

    def open(self, uid: str, name: str) -> BinaryIO | None:
        """A picture that is kept; None when it is not."""
        path = self._of(uid) / name
        try:
            file = path.open("rb")
            os.utime(path)  # used now: the longest unused leave first
        except OSError:
            return None
        return file

    def spool(self, size: int) -> BinaryIO:
        """A file without a name, for a picture on its way to a visitor: here, or where temporary
        files are when this disk is full or not written to.

        Raises:
            OSError: there is no room for one.
        """
        with contextlib.suppress(OSError):
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for folder in (self._folder, Path(tempfile.gettempdir())):
            with contextlib.suppress(OSError):
                if shutil.disk_usage(folder).free > size:
                    return cast(BinaryIO, tempfile.TemporaryFile(dir=folder))
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def write(self, uid: str, name: str, content: BinaryIO | bytes) -> None:
        """Keep a picture; a file is read from its beginning."""
        if not self._max_bytes:
            return
        folder = self._of(uid)
        piece = folder / f".{name}.{threading.get_ident()}"
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            with piece.open("wb") as file:
                if isinstance(content, bytes):
                    file.write(content)
                else:
                    content.seek(0)
                    shutil.copyfileobj(content, file, 1 << 18)
                size = file.tell()
            os.replace(piece, folder / name)  # noqa: PTH105 - seen whole, or not at all
        except OSError:
            with contextlib.suppress(OSError):
                piece.unlink()
            return
        with self._lock:
            if self._bytes >= 0:
                self._bytes += size
            if self._bytes < 0 or self._bytes > self._max_bytes:
                self._shrink()

    def forget(self, uid: str) -> None:
        """Remove the pictures of an object."""
        shutil.rmtree(self._of(uid), ignore_errors=True)

    def _shrink(self) -> None:
        """Count what is there, and remove the longest unused when it is too much."""
        found = []
        for folder, _, names in os.walk(self._folder):
            for name in names:
                path = os.path.join(folder, name)  # noqa: PTH118 - many, and only strings needed
                with contextlib.suppress(OSError):
                    state = os.stat(path)  # noqa: PTH116
                    found.append((state.st_mtime, state.st_size, path))
        total = sum(size for _, size, _ in found)
        if total > self._max_bytes:
            for _, size, path in sorted(found):
                with contextlib.suppress(OSError):
                    os.unlink(path)  # noqa: PTH108
                    total -= size
                if total <= self._max_bytes * _KEEP:
                    break
        self._bytes = total
