"""Remembers how datasets are laid out, so that one like the last ones is read without a walk.

The instances of a series differ in their values, hardly ever in the order and lengths of their
elements. A layout is all that a walk over a dataset looked at, to be compared at once; where it is
the same, the walk would take the same steps, and the wanted values are where they were. A layout is
kept when a second walk came to the same end, so that what never repeats costs next to nothing.
"""

from __future__ import annotations

import struct
from collections.abc import Container
from typing import Final, NamedTuple

from lfscp.dicom.encoding.elements import UNDEFINED_LENGTH, Encoding, element_head, skip_undefined

_KEPT: Final = 16  # the layouts used last
_ENDS: Final = 64  # of walks, remembered
_FEW: Final = 4  # places at the front, where the order does not matter


class Layout:
    """One layout of the first bytes of datasets.

    Args:
        buffer: one dataset that is laid out so.
        heads: begin and length of each run of bytes that decides about the walk, in order.
        spans: raw tag to begin and length of a wanted value, in the order of their places.
        items: raw tag to the encoding of a sequence's items, where it is not the dataset's.
        end: what the walk returned.
    """

    __slots__ = ("_heads", "_last", "_size", "_tags", "_unpack_heads", "_values", "end", "items")

    def __init__(
        self,
        buffer: bytes,
        heads: list[tuple[int, int]],
        spans: dict[int, tuple[int, int]],
        items: dict[int, Encoding],
        end: int,
    ) -> None:
        self._unpack_heads = _taking(heads)
        self._heads = self._unpack_heads.unpack_from(buffer)
        begin, length = heads[-1]
        self._last = slice(begin, begin + length)
        self._tags = tuple(spans)
        self._values = _taking(list(spans.values()))
        self._size = max(self._unpack_heads.size, self._values.size)
        self.items = items
        self.end = end

    def values(self, buffer: bytes) -> dict[int, bytes] | None:
        """The wanted values of a dataset, by raw tag; None when it is laid out otherwise."""
        if len(buffer) < self._size or buffer[self._last] != self._heads[-1]:
            return None
        if self._unpack_heads.unpack_from(buffer) != self._heads:
            return None
        return dict(zip(self._tags, self._values.unpack_from(buffer), strict=True))


def _taking(places: list[tuple[int, int]]) -> struct.Struct:
    """What takes the bytes at these places, which are in order and do not overlap."""
    parts: list[str] = []
    at = 0
    for begin, length in places:
        parts.append(f"{begin - at}x{length}s")
        at = begin + length
    return struct.Struct("<" + "".join(parts))


class Found(NamedTuple):
    """What a layout tells of a dataset: see Layout."""

    values: dict[int, bytes]
    items: dict[int, Encoding]
    end: int


class Layouts:
    """The layouts of one encoding. Any thread may use them.

    Args:
        encoding: of the datasets.
        wanted: raw tags of the values that are wanted.
        last_group: behind it, the walk ends at the first bulk value.
    """

    def __init__(self, encoding: Encoding, wanted: Container[int], last_group: int) -> None:
        self._encoding = encoding
        self._wanted = wanted
        self._last_group = last_group
        # Replaced as a whole, so that a thread never meets a list in the making.
        self._known: tuple[Layout, ...] = ()
        self._ends: dict[int, None] = {}

    def read(self, buffer: bytes) -> Found | None:
        """What is wanted of a dataset; None when its layout is not known."""
        known = self._known
        for at, layout in enumerate(known):
            values = layout.values(buffer)
            if values is not None:
                if at >= _FEW:
                    self._known = (layout, *known[:at], *known[at + 1 :])
                return Found(values, layout.items, layout.end)
        return None

    def learn(self, buffer: bytes, found: Found) -> None:
        """Keep the layout of a dataset that was walked, when it seems to repeat."""
        if found.end not in self._ends:
            if len(self._ends) >= _ENDS:
                self._ends.clear()
            self._ends[found.end] = None
            return
        layout = self._layout(buffer, found.end)
        if layout is not None and layout.values(buffer) == found.values:
            self._known = (layout, *self._known[: _KEPT - 1])

    def _layout(self, buffer: bytes, walked_to: int) -> Layout | None:
        """The layout of a sound dataset; None when a wanted value is cut off, or all is zeros."""
        encoding, end = self._encoding, len(buffer)
        heads: list[tuple[int, int]] = []
        spans: dict[int, tuple[int, int]] = {}
        items: dict[int, Encoding] = {}
        at = 0
        while at + 8 <= end:
            raw, value, length, inner = element_head(buffer, at, end, encoding)
            heads.append((at, value - at))
            is_bulk = (raw >> encoding.group_shift) & 0xFFFF > self._last_group
            if is_bulk and (value - at > 8 if encoding.explicit else length == UNDEFINED_LENGTH):
                break
            if length == UNDEFINED_LENGTH:
                at = skip_undefined(buffer, value, end, inner or encoding)
                until = at - 8
                heads.append((value, at - value))  # what is inside counts as a whole
            else:
                at = until = value + length
            if raw in self._wanted:
                if until > end:
                    return None
                spans.pop(raw, None)  # the last of a tag counts, as in the walk
                spans[raw] = (value, until - value)
                if inner not in (None, encoding):
                    items[raw] = inner
        return Layout(buffer, heads, spans, items, walked_to) if heads else None
