"""Writes data elements in one encoding, with places that are filled in when they are known.

Rules: headers and small values are gathered, up to a bound; large values are kept as they were
given and not copied, and those that are made or turned round only when they are read are so piece
by piece; numbers are turned round by their VR and nothing else is.
Source: PS3.5 sections 7.1 and 7.3.
"""

from __future__ import annotations

import struct
from array import array
from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple, Protocol

from lfscp.dicom.encoding.elements import Encoding
from lfscp.dicom.encoding.value_representations import LONG_FORM, WIDTH
from lfscp.dicom.errors import DatasetError

LARGE: Final = 65_536  # bytes of a value that is not gathered
_STEP: Final = 1 << 20  # bytes turned round at a time
_MARK_BYTES: Final = 128  # of memory
_ARRAY_TYPES: Final = {2: "H", 4: "I", 8: "Q"}
_READY: Final = (bytes, bytearray, memoryview)


class _Heads:
    def __init__(self, order: str) -> None:
        self.item = struct.Struct(order + "HHL").pack
        self.short = struct.Struct(order + "HH2sH").pack
        self.long = struct.Struct(order + "HH2sHL").pack
        self.length = struct.Struct(order + "L").pack


_HEADS: Final = {"little": _Heads("<"), "big": _Heads(">")}


class Made(Protocol):
    """Bytes that are made when they are read, which is done once; how many is known before."""

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[memoryview]:
        """All of them in order, in pieces of whole numbers."""


Piece = bytes | bytearray | memoryview | Made


class TurnedRound:
    """Numbers in the other byte order.

    Args:
        width: of each, in bytes.
    """

    def __init__(self, content: Piece, width: int) -> None:
        self._content = content
        self._type = _ARRAY_TYPES[width]

    def __len__(self) -> int:
        return len(self._content)

    def __iter__(self) -> Iterator[memoryview]:
        for each in read_pieces([self._content]):
            for start in range(0, len(each), _STEP):
                yield memoryview(_turned(each[start : start + _STEP], self._type)).cast("B")
            del each  # before the next is made


def _turned(content: bytes | bytearray | memoryview, array_type: str) -> array[int]:
    numbers = array(array_type)
    numbers.frombytes(content)
    numbers.byteswap()
    return numbers


def read_pieces(pieces: Iterable[Piece]) -> Iterator[memoryview]:
    """What pieces hold, in order."""
    for piece in pieces:
        if isinstance(piece, _READY):
            yield memoryview(piece)
        else:
            yield from piece


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
        most_bytes: of memory for what is gathered.
    """

    def __init__(
        self, encoding: Encoding, byteorder: str, most_bytes: float = float("inf")
    ) -> None:
        self.size = 0
        self._left = most_bytes
        self.turns_round = encoding.byteorder != byteorder
        self._is_explicit = encoding.explicit
        self._heads = _HEADS[encoding.byteorder]
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
            self._gather(self._heads.long(group, element, vr, 0, length))
        else:
            self._gather(self._heads.short(group, element, vr, length))

    def item_head(self, tag: int, length: int) -> None:
        """Write the header of an item or delimiter, or of an element in implicit VR."""
        self._gather(self._heads.item(tag >> 16, tag & 0xFFFF, length))

    def value(self, content: Piece, vr: bytes) -> None:
        """Write a value in the right byte order; its length is a multiple of its VR's width."""
        if self.turns_round and (width := WIDTH.get(vr, 1)) > 1:
            if isinstance(content, _READY) and len(content) < LARGE:
                content = _turned(content, _ARRAY_TYPES[width]).tobytes()
            else:
                content = TurnedRound(content, width)
        self.copy(content)

    def copy(self, content: Piece) -> None:
        """Write bytes as they are.

        Raises:
            DatasetError: more is gathered than may be.
        """
        if len(content) < LARGE and isinstance(content, _READY):
            self._gather(content)
            return
        self.size += len(content)
        self._pieces += (self._gathered, content)
        self._gathered = bytearray()

    def _gather(self, content: bytes | bytearray | memoryview) -> None:
        size = len(content)
        self.size += size
        self._gathered += content
        self._left -= size
        if self._left < 0:
            self.spend(0)

    def spend(self, size: int) -> None:
        """Count memory that is not given back before the end.

        Raises:
            DatasetError: it is more than may be.
        """
        self._left -= size
        if self._left < 0:
            raise DatasetError("its elements other than pixels need too much memory")

    def mark(self, before: int) -> Mark:
        """The place so many bytes before the end of what was written last."""
        self.spend(_MARK_BYTES)
        return Mark(self._gathered, len(self._gathered) - before)

    def put_length(self, mark: Mark, length: int) -> None:
        """Write a 32-bit length at a place."""
        mark.put(self._heads.length(length))
