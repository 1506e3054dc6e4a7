"""Keeps rendered pictures on disk, by the UID of their object.

Rules: if there are too many bytes, the picture unused longest goes first. A full disk costs the
cache, not the answer.
"""

# ruff: noqa: PTH108 - pathlib costs as much as the system call

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import tempfile
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import BinaryIO, cast

from lfscp.archive.errors import ArchiveError
from lfscp.archive.store.disk_cache import DiskCache
from lfscp.archive.store.kept_beside import part_of


class NewPicture:
    """A file that a picture is drawn into. It is gone when it is closed, unless it was kept.

    Args:
        cache: where it is kept.
    Raises:
        OSError: it cannot be made.
    """

    def __init__(self, cache: DiskCache) -> None:
        self._cache = cache
        self._path = cache.new_piece()
        self._file: BinaryIO | None = open(self._path, "x+b")  # noqa: SIM115 - until it is closed
        self.descriptor = self._file.fileno()

    def keep(self, uid: str, name: str) -> BinaryIO:
        """Keep the picture under its name, if there is room for it; returns it for reading."""
        file = cast(BinaryIO, self._file)
        with contextlib.suppress(OSError, ArchiveError):
            size = os.fstat(self.descriptor).st_size
            self._cache.add(self._path, uid, size, part_of(uid, name))
        file.seek(0)
        self._file = None  # the caller closes it
        return file

    def close(self) -> None:
        """Remove the name that it was made with."""
        if self._file is not None:
            self._file.close()
        with contextlib.suppress(OSError):
            os.unlink(self._path)


class PictureCache:
    """The pictures of one node. Any thread may call any method.

    Args:
        folder: made when needed.
        max_bytes: 0 keeps nothing, and removes what was kept.
    """

    def __init__(self, folder: Path, max_bytes: int) -> None:
        self._folder = folder
        self._max_bytes = max_bytes
        old = folder.parent.glob("[0-9a-f]" * 32)  # where pictures were before they had a folder
        for each in old if max_bytes else (*old, folder):
            shutil.rmtree(each, ignore_errors=True)

    @cached_property
    def _cache(self) -> DiskCache:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        return DiskCache(self._folder, self._max_bytes, in_use_s=0)  # a reader has it open

    def open(self, uid: str, name: str) -> BinaryIO | None:
        """A picture that is kept; None when it is not."""
        if self._max_bytes:
            with contextlib.suppress(OSError, ArchiveError):
                path = self._cache.find(uid, part_of(uid, name))
                return open(path, "rb") if path else None
        return None

    def make_folder(self) -> str:
        """Make the folder, where files without a name are as well; not when the disk is full."""
        with contextlib.suppress(OSError):
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        return str(self._folder)

    def spool(self, size: int) -> BinaryIO:
        """Make a file without a name for a picture on its way to a visitor.

        It is in the cache's folder; if this disk takes nothing, in the system's temporary folder.

        Raises:
            OSError: there is no room for it.
        """
        for folder in (self.make_folder(), tempfile.gettempdir()):
            with contextlib.suppress(OSError):
                if shutil.disk_usage(folder).free > size:
                    return cast(BinaryIO, tempfile.TemporaryFile(dir=folder))
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    @contextlib.contextmanager
    def new_file(self) -> Iterator[NewPicture | None]:
        """Make an empty file for a picture; None when nothing is kept, or no file can be made."""
        new: NewPicture | None = None
        if self._max_bytes:
            with contextlib.suppress(OSError, ArchiveError):
                new = NewPicture(self._cache)
        try:
            yield new
        finally:
            if new is not None:
                new.close()

    def forget(self, uid: str) -> None:
        """Remove the pictures of an object."""
        if self._max_bytes:
            with contextlib.suppress(OSError, ArchiveError):
                self._cache.drop(uid)
