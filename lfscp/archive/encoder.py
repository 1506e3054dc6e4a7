"""Writes data elements in one encoding, with places that are filled in when they are known.

Rules: headers and small values are gathered, large values are kept as they were given and not
copied; numbers are turned round by their VR and nothing else is.
Source: PS3.5 sections 7.1 and 7.3.
"""

from __future__ import annotations

import struct
from array import array
from typing import Final, NamedTuple

from lfscp.archive.elements import Encoding
from lfscp.archive.value_representations import LONG_FORM, WIDTH

Piece = bytes | bytearray | memoryview

_LARGE: Final = 65_536  # bytes
_ARRAY_TYPES: Final = {2: "H", 4: "I", 8: "Q"}


class Mark(NamedTuple):
    """A place in what was written."""

    piece: bytearray
    offset: int

    def put(self, content: bytes) -> None:
        """Write something else there, of the same length."""
        self.piece[self.offset : self.offset + len(content)] = content


class Encoder:
    """Elements in one encoding, in pieces.

    Args:
        encoding: of what is written.
        byteorder: of the values that are given.
    """

    def __init__(self, encoding: Encoding, byteorder: str) -> None:
        self.size = 0
        self.turns_round = encoding.byteorder != byteorder
        self._is_explicit = encoding.explicit
        self._order = "<" if encoding.byteorder == "little" else ">"
        self._pieces: list[Piece] = []
        self._gathered = bytearray()

    def pieces(self) -> list[Piece]:
        """All that was written, in order."""
        return [*self._pieces, self._gathered]

    def head(self, tag: int, vr: bytes, length: int) -> None:
        """Write the header of an element."""
        group, element = tag >> 16, tag & 0xFFFF
        if not self._is_explicit:
            self.item_head(tag, length)
        elif vr in LONG_FORM:
            self.copy(struct.pack(self._order + "HH2sHL", group, element, vr, 0, length))
        else:
            self.copy(struct.pack(self._order + "HH2sH", group, element, vr, length))

    def item_head(self, tag: int, length: int) -> None:
        """Write the header of an item or delimiter, or of an element in implicit VR."""
        self.copy(struct.pack(self._order + "HHL", tag >> 16, tag & 0xFFFF, length))

    def value(self, content: Piece, vr: bytes) -> None:
        """Write a value in the right byte order; its length is a multiple of its VR's width."""
        width = WIDTH.get(vr, 1)
        if self.turns_round and width > 1:
            numbers = array(_ARRAY_TYPES[width], bytes(content))
            numbers.byteswap()
            content = numbers.tobytes()
        self.copy(content)

    def copy(self, content: Piece) -> None:
        """Write bytes as they are."""
        self.size += len(content)
        if len(content) < _LARGE:
            self._gathered += content
            return
        self._pieces += (self._gathered, content)
        self._gathered = bytearray()

    def mark(self, before: int) -> Mark:
        """The place so many bytes before the end of what was written last."""
        return Mark(self._gathered, len(self._gathered) - before)

    def put_length(self, mark: Mark, length: int) -> None:
        """Write a 32-bit length at a place."""
        mark.put(struct.pack(self._order + "L", length))
