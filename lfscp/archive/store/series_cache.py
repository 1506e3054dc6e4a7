"""Keeps the metadata of series on disk, as they were made, in a bounded folder.

Rules: what a series is now is part of a name, so what is kept is never old; the older one goes when
the series is asked for again, and at the latest by the upkeep, for which the first line of a file
says what it is of. If there is too much, the one unread longest goes first. A full disk costs the
cache, not the answer.
"""

from __future__ import annotations

import contextlib
import hashlib
import shutil
from collections.abc import Callable, Generator, Iterator
from functools import cached_property
from pathlib import Path
from typing import IO, Final

from lfscp.archive.errors import ArchiveError
from lfscp.archive.store.disk_cache import DiskCache
from lfscp.archive.store.kept_beside import series_name

_PIECE: Final = 1 << 18
_FORM: Final = "2"  # of what is written; another after every change of it
_MAX_HEAD: Final = 512  # bytes of the first line
_HEAD: Final = b"lfscp"  # begins it


def series_in(path: Path) -> tuple[str, str, str] | None:
    """Study, series and version of which a file has the metadata; None if it does not say."""
    try:
        with path.open("rb") as file:
            head = file.readline(_MAX_HEAD).rstrip(b"\n").decode().split("\t")
    except (OSError, UnicodeDecodeError):
        return None
    if len(head) != len(("lfscp", "study", "series", "version")) or head[0] != _HEAD.decode():
        return None
    return head[1], head[2], head[3]


class SeriesCache:
    """The metadata of one node. Any thread may call any method.

    Args:
        folder: made when needed.
        max_bytes: 0 keeps nothing, and removes what was kept.
    """

    def __init__(self, folder: Path, max_bytes: int) -> None:
        self._folder = folder
        self._max_bytes = max_bytes
        if not max_bytes:
            shutil.rmtree(folder, ignore_errors=True)

    @cached_property
    def _cache(self) -> DiskCache:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        return DiskCache(self._folder, self._max_bytes, in_use_s=0)  # a reader has it open

    def forget(self, study_uid: str, series_uid: str) -> None:
        """Remove what is kept of a series."""
        if self._max_bytes:
            with contextlib.suppress(OSError, ArchiveError):
                self._cache.drop(series_name(study_uid, series_uid))

    def pieces(
        self,
        study_uid: str,
        series_uid: str,
        version: str,
        made: Iterator[bytes],
        is_whole: Callable[[], bool] = lambda: True,
    ) -> Generator[bytes, None, None]:
        """The metadata of a series: those that are kept, or else those that are made, and kept.

        Args:
            version: changes whenever the series does.
            made: makes them, piece by piece.
            is_whole: asked at the end: whether they are those of all instances, and may be kept.
        """
        name = series_name(study_uid, series_uid)
        digest = hashlib.blake2b(f"{_FORM}|{version}".encode(), digest_size=12).hexdigest()
        part = f".{digest}"
        kept = self._open(name, part)
        if kept is not None:
            with kept:
                kept.readline(_MAX_HEAD)
                while piece := kept.read(_PIECE):
                    yield piece
            return
        self.forget(study_uid, series_uid)
        writing = _Writing(self._new_piece())
        try:
            writing.write(b"\t".join((_HEAD, *map(str.encode, (study_uid, series_uid, version)))))
            writing.write(b"\n")
            for piece in made:
                writing.write(piece)
                yield piece
            if is_whole() and writing.is_whole():
                self._keep(writing, name, part)
        finally:
            writing.end()

    def _open(self, name: str, part: str) -> IO[bytes] | None:
        if self._max_bytes:
            with contextlib.suppress(OSError, ArchiveError):
                path = self._cache.find(name, part)
                return open(path, "rb") if path else None
        return None

    def _new_piece(self) -> Path | None:
        if self._max_bytes:
            with contextlib.suppress(OSError, ArchiveError):
                return Path(self._cache.new_piece())
        return None

    def _keep(self, writing: _Writing, name: str, part: str) -> None:
        with contextlib.suppress(OSError, ArchiveError):
            self._cache.drop(name)
            self._cache.add(str(writing.path), name, writing.size, part)


class _Writing:
    """A file in the making; what the disk does not take is not kept.

    Args:
        path: None for no file at all.
    """

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self.size = 0
        self._file: IO[bytes] | None = None
        if path is not None:
            with contextlib.suppress(OSError):
                self._file = path.open("xb")

    def write(self, piece: bytes) -> None:
        """Write a piece."""
        if self._file is None:
            return
        try:
            self._file.write(piece)
            self.size += len(piece)
        except OSError:
            self.end()

    def is_whole(self) -> bool:
        """Whether all of it is in the file."""
        if self._file is not None:
            try:
                self._file.flush()
            except OSError:
                self.end()
        return self._file is not None

    def end(self) -> None:
        """Close and remove the file; a copy that is kept stays."""
        file, self._file = self._file, None
        with contextlib.suppress(OSError):
            if file is not None:
                file.close()
        if self.path is not None:
            self.path.unlink(missing_ok=True)
