"""Keeps rendered pictures on disk, by the UID of their object.

Rules: if there are too many bytes, the picture unused longest goes first. A full disk costs the
cache, not the answer.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import tempfile
from functools import cached_property
from pathlib import Path
from typing import BinaryIO, cast

from lfscp.archive.errors import ArchiveError
from lfscp.archive.store.disk_cache import DiskCache
from lfscp.archive.store.kept_beside import part_of


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

    def write(self, uid: str, name: str, content: BinaryIO | bytes) -> None:
        """Keep a picture; a file is read from its beginning."""
        if not self._max_bytes:
            return
        with contextlib.suppress(OSError, ArchiveError):
            piece = Path(self._cache.new_piece())
            try:
                with piece.open("wb") as file:
                    if isinstance(content, bytes):
                        file.write(content)
                    else:
                        content.seek(0)
                        shutil.copyfileobj(content, file, 1 << 18)
                self._cache.add(str(piece), uid, piece.stat().st_size, part_of(uid, name))
            finally:
                piece.unlink(missing_ok=True)

    def forget(self, uid: str) -> None:
        """Remove the pictures of an object."""
        if self._max_bytes:
            with contextlib.suppress(OSError, ArchiveError):
                self._cache.drop(uid)
