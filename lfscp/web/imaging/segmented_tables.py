"""Expands segmented palette colour lookup tables (PS3.3 section C.7.9.2).

A segment is an opcode, a length and values. Opcode 0: entries as they are; 1: a straight line from
the previous entry to the given one; 2: earlier segments again, by their offset in bytes.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from lfscp.services.transcoding.decoded import Array
from lfscp.web.imaging.errors import LookupTableError

_DISCRETE, _LINEAR, _INDIRECT = 0, 1, 2
_BYTE: Final = 8
_SHORT: Final = "a segment of it ends early"


def expanded(words: Array, count: int, bits: int) -> Array:
    """Expand the segments.

    Args:
        words: the value as words of 16 bits.
        count: entries of the expanded table.
        bits: of an entry; up to 8, opcodes, lengths and entries are bytes.
    Returns:
        Shape: (count,), uint16.
    Raises:
        LookupTableError: the segments make no sense.
    """
    if bits > _BYTE:
        return _Segments(words.tolist(), 2, count).expand()
    try:
        return _Segments(words.astype("<u2").view(np.uint8).tolist(), 1, count).expand()
    except LookupTableError:  # some systems write each of them in a word
        return _Segments(words.tolist(), 1, count).expand()


class _Segments:
    def __init__(self, data: list[int], width: int, count: int) -> None:
        self._data = data
        self._width = width  # bytes of a value, by which offsets count
        self._count = count
        self._out: list[Array] = []
        self._length = 0
        self._last = 0

    def expand(self) -> Array:
        position = 0
        while self._length < self._count and position < len(self._data):
            position = self._segment(position, indirect=True)
        if self._length < self._count:
            raise LookupTableError(
                f"its segments give {self._length} entries, its descriptor says {self._count}"
            )
        return np.concatenate(self._out)[: self._count].astype(np.uint16)

    def _segment(self, position: int, *, indirect: bool) -> int:
        """Expand one segment; returns where the next one is."""
        opcode, length = self._values(position, 2)
        if opcode == _DISCRETE:
            self._append(np.array(self._values(position + 2, length), np.uint16))
            return position + 2 + length
        if opcode == _LINEAR:
            (end,) = self._values(position + 2, 1)
            if not self._length:
                raise LookupTableError("its first segment is a line from nowhere")
            steps = np.arange(1, length + 1) / max(length, 1)
            self._append(np.floor(self._last + (end - self._last) * steps + 0.5))
            return position + 3
        if opcode == _INDIRECT and indirect:
            self._again(position + 2, length)
            return position + 2 + (4 if self._width == 1 else 2)
        raise LookupTableError(f"a segment of it has the opcode {opcode}")

    def _again(self, position: int, segments: int) -> None:
        parts = self._values(position, 4 if self._width == 1 else 2)
        bits = 8 * self._width
        offset = sum(part << bits * index for index, part in enumerate(parts))
        at = offset // self._width
        for _ in range(segments):
            if self._length >= self._count:
                break
            at = self._segment(at, indirect=False)

    def _values(self, position: int, count: int) -> list[int]:
        found = self._data[position : position + count]
        if len(found) < count:
            raise LookupTableError(_SHORT)
        return found

    def _append(self, entries: Array) -> None:
        if len(entries):
            self._out.append(entries)
            self._length += len(entries)
            self._last = int(entries[-1])
