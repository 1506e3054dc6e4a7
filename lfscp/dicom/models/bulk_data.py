"""Puts a dataset and bulk data from elsewhere together: the object in explicit VR little endian.

It comes in pieces, so that bulk data of any size need no memory. Pure: the caller reads the data.
Source: PS3.5 sections 7.1.2, 7.5 and A.4; PS3.18 section 10.5.1.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from lfscp.dicom.encoding.elements import UNDEFINED_LENGTH
from lfscp.dicom.encoding.value_representations import (
    LONG_FORM,
    MAX_SHORT_LENGTH,
    SQ,
    UN,
    padding_of,
)
from lfscp.dicom.errors import DatasetError
from lfscp.dicom.models.element_tree import Element, Tree, encode_element
from lfscp.dicom.values.attributes import SPECIFIC_CHARACTER_SET
from lfscp.dicom.values.charset import UTF_8

_SHORT_HEAD: Final = struct.Struct("<HH2sH")
_LONG_HEAD: Final = struct.Struct("<HH2sHL")
_ITEM: Final = struct.Struct("<HHL")
_OB: Final = b"OB"
_MAX_LENGTH: Final = UNDEFINED_LENGTH - 1
_END_OF_ITEM: Final = _ITEM.pack(0xFFFE, 0xE00D, 0)
_END_OF_SEQUENCE: Final = _ITEM.pack(0xFFFE, 0xE0DD, 0)


class BulkDataURI(bytes):
    """The value of an element whose bytes are elsewhere: the URI that names them, in UTF-8."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class BulkData:
    """Where bulk data are: begin and size of each part.

    Args:
        is_encapsulated: each part is a compressed frame; else they are one value.
    """

    parts: Sequence[tuple[int, int]]
    is_encapsulated: bool = False


class ObjectWriter:
    """Writes objects.

    Args:
        find: the bulk data of an element with this tag and BulkDataURI.
        read: the bytes from a begin on, so many, in pieces.
    """

    def __init__(
        self,
        find: Callable[[int, BulkDataURI], BulkData],
        read: Callable[[int, int], Iterator[bytes]],
    ) -> None:
        self._find = find
        self._read = read

    def pieces(self, tree: Tree) -> Iterator[bytes]:
        """The encoded dataset.

        Raises:
            DatasetError: a value is too long.
        """
        named = Element(b"CS", UTF_8)
        return self._elements(Tree({**tree, SPECIFIC_CHARACTER_SET: named}))

    def _elements(self, tree: Tree) -> Iterator[bytes]:
        for tag in sorted(tree):
            vr, value = tree[tag]
            if isinstance(value, BulkDataURI):
                yield from self._bulk(tag, vr, self._find(tag, value))
            elif isinstance(value, list) and any(map(_is_elsewhere, value)):
                yield _long_head(tag, SQ, UNDEFINED_LENGTH)
                for item in value:
                    yield _ITEM.pack(0xFFFE, 0xE000, UNDEFINED_LENGTH)
                    yield from self._elements(item)
                    yield _END_OF_ITEM
                yield _END_OF_SEQUENCE
            else:
                yield encode_element(tag, tree[tag])

    def _bulk(self, tag: int, vr: bytes, data: BulkData) -> Iterator[bytes]:
        if data.is_encapsulated:
            yield _long_head(tag, _OB, UNDEFINED_LENGTH)
            yield _ITEM.pack(0xFFFE, 0xE000, 0)  # no offset table
            for begin, size in data.parts:
                yield _ITEM.pack(0xFFFE, 0xE000, _even(tag, size))
                yield from self._read(begin, size)
                if size % 2:
                    yield padding_of(_OB)
            yield _END_OF_SEQUENCE
            return
        size = sum(size for _, size in data.parts)
        length = _even(tag, size)
        if vr in LONG_FORM or length > MAX_SHORT_LENGTH:
            yield _long_head(tag, vr if vr in LONG_FORM else UN, length)
        else:
            yield _SHORT_HEAD.pack(tag >> 16, tag & 0xFFFF, vr, length)
        for begin, part in data.parts:
            yield from self._read(begin, part)
        if size % 2:
            yield padding_of(vr)


def _is_elsewhere(tree: Tree) -> bool:
    """Whether any value of an item is elsewhere."""
    return any(
        isinstance(value, BulkDataURI)
        or (isinstance(value, list) and any(map(_is_elsewhere, value)))
        for _, value in tree.values()
    )


def _even(tag: int, size: int) -> int:
    length = size + size % 2
    if length > _MAX_LENGTH:
        raise DatasetError("the bulk data are longer than a value can be (4 GB)", tag)
    return length


def _long_head(tag: int, vr: bytes, length: int) -> bytes:
    return _LONG_HEAD.pack(tag >> 16, tag & 0xFFFF, vr, 0, length)
