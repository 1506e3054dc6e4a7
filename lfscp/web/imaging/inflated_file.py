"""Reads a deflated dataset as a file, without inflating it as a whole.

Rules: reading begins at the last noted place before the wanted one, so that playing the frames of a
deflated object inflates each byte about once. The places of the file that was read last are kept.
"""

from __future__ import annotations

import io
import os
import zlib
from bisect import bisect_right
from dataclasses import dataclass, field
from typing import Any, BinaryIO, Final, cast

from lfscp.archive.store.deflated import MAX_INFLATED_BYTES

_READ: Final = 1 << 16  # deflated bytes at a time
_PIECE: Final = 1 << 18  # inflated bytes at a time
_NOTE_EVERY: Final = 8 << 20  # inflated bytes


@dataclass(slots=True)
class _Place:
    """A place where inflating can go on.

    Args:
        at: inflated bytes before it.
        read: deflated bytes read before it.
        pending: of those, what is not inflated yet.
    """

    at: int
    read: int
    pending: bytes
    inflater: Any

    def copy(self) -> _Place:
        return _Place(self.at, self.read, self.pending, self.inflater.copy())


@dataclass(slots=True)
class _Places:
    """The places noted in one file, in order."""

    of: tuple[int, ...] = ()
    noted: list[_Place] = field(default_factory=list)

    def before(self, at: int) -> _Place | None:
        """The last place up to a position."""
        found = bisect_right(self.noted, at, key=lambda each: each.at)
        return self.noted[found - 1].copy() if found else None

    def note(self, place: _Place) -> None:
        """Note a place, if it is far enough behind the last one."""
        if not self.noted or place.at >= self.noted[-1].at + _NOTE_EVERY:
            self.noted.append(place.copy())


_LAST: Final = _Places()  # of the file that was read last; processes that render have one thread


def open_inflated(file: BinaryIO, offset: int) -> BinaryIO:
    """Read a deflated dataset inflated.

    Args:
        file: stays open as long as it is read.
        offset: where the dataset begins in it.
    """
    state = os.fstat(file.fileno())
    key = (state.st_dev, state.st_ino, state.st_size, state.st_mtime_ns, offset)
    if _LAST.of != key:
        _LAST.of, _LAST.noted = key, []
    return cast(BinaryIO, io.BufferedReader(_Inflated(file, offset, _LAST), _READ))


class _Inflated(io.RawIOBase):
    def __init__(self, file: BinaryIO, offset: int, places: _Places) -> None:
        self._file = file
        self._offset = offset
        self._places = places
        self._place = places.before(0) or self._beginning()
        self._ready = memoryview(b"")  # inflated, from `_at` on
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        if whence == os.SEEK_END:
            raise io.UnsupportedOperation("its end is not known")
        wanted = offset + (self._at if whence == os.SEEK_CUR else 0)
        known = self._places.before(wanted)
        if wanted < self._at or (known and known.at > self._place.at):
            self._place = known or self._beginning()
            self._at, self._ready = self._place.at, memoryview(b"")
        while self._at < wanted and self._fill():
            self._take(wanted - self._at)
        return self._at

    def readinto(self, buffer: Any) -> int:
        target = memoryview(buffer)
        if not self._fill():
            return 0
        piece = self._take(len(target))
        target[: len(piece)] = piece
        return len(piece)

    @staticmethod
    def _beginning() -> _Place:
        return _Place(0, 0, b"", zlib.decompressobj(-zlib.MAX_WBITS))

    def _take(self, most: int) -> memoryview:
        piece, self._ready = self._ready[:most], self._ready[most:]
        self._at += len(piece)
        return piece

    def _fill(self) -> bool:
        """Inflate until there is something to read; False at the end."""
        place = self._place
        while not self._ready and not place.inflater.eof and self._at < MAX_INFLATED_BYTES:
            self._places.note(place)
            if not place.pending:
                self._file.seek(self._offset + place.read)
                place.pending = self._file.read(_READ)
                place.read += len(place.pending)
            ends = not place.pending
            self._ready = memoryview(place.inflater.decompress(place.pending, _PIECE))
            place.pending = place.inflater.unconsumed_tail
            place.at += len(self._ready)
            if ends and not self._ready:
                break
        return bool(self._ready)
