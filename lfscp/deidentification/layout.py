"""Finds the elements of a dataset or an item, strictly: what does not add up is an error.

Rules: nothing is copied; elements must come in ascending order, and a length may not lie. Readers
that are more lenient could see elements that a strict one overlooks, so nothing is overlooked here.
Source: PS3.5 sections 7.1 and 7.5.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Final, NamedTuple

from lfscp.dicom.encoding.elements import (
    ITEM,
    ITEM_DELIMITER,
    SEQUENCE_DELIMITER,
    UNDEFINED_LENGTH,
    Buffer,
    Encoding,
    element_head,
    skip_undefined,
)
from lfscp.dicom.errors import DatasetError

_HEAD: Final = 8  # bytes of the shortest head, and of a delimiter


class Found(NamedTuple):
    """One element.

    Args:
        declared: its VR as it stands there; empty in implicit VR.
        begin: where its head begins.
        value: where its value begins.
        end: where its value ends, before a delimiter.
        after: where the next element begins.
        inner: the encoding of its items; None if it has none.
    """

    tag: int
    declared: bytes
    begin: int
    value: int
    end: int
    after: int
    inner: Encoding | None

    @property
    def is_undefined(self) -> bool:
        return self.after != self.end


def elements_of(buffer: Buffer, at: int, end: int, encoding: Encoding) -> list[Found]:
    """The elements between two positions.

    Raises:
        DatasetError: a length points beyond the end, an element has no VR, or the order is wrong.
    """
    try:
        return list(_each(buffer, at, end, encoding))
    except struct.error:
        raise DatasetError("the dataset ends inside an element") from None


def _each(buffer: Buffer, at: int, end: int, encoding: Encoding) -> Iterator[Found]:
    before = -1
    explicit, raw_tag = encoding.explicit, encoding.raw_tag
    while at < end:
        if at + _HEAD > end:
            raise DatasetError(f"the dataset ends inside an element, at byte {at}")
        raw, value, length, inner = element_head(buffer, at, end, encoding)
        tag = raw_tag(raw)
        if tag <= before:
            if tag == 0 and not any(buffer[at:end]):
                return  # zeros behind the last element are none
            raise DatasetError("the elements are not in ascending order", tag)
        if tag >> 16 == 0xFFFE:
            raise DatasetError(f"an item or delimiter out of place at byte {at}", tag)
        declared = bytes(buffer[at + 4 : at + 6]) if explicit else b""
        if length == UNDEFINED_LENGTH:
            after = skip_undefined(buffer, value, end, inner or encoding)
            yield Found(tag, declared, at, value, after - _HEAD, after, inner or encoding)
        else:
            after = value + length
            if after > end:
                raise DatasetError(f"{length} bytes of value, {end - value} are there", tag)
            yield Found(tag, declared, at, value, after, after, inner)
        before, at = tag, after


def items_of(buffer: Buffer, found: Found, encoding: Encoding) -> list[tuple[int, int]]:
    """Where the items of a sequence begin and end, without their delimiters.

    Raises:
        DatasetError: something else than items is in it.
    """
    items = []
    at, end = found.value, found.end
    while at < end:
        if at + _HEAD > end:
            raise DatasetError(f"a sequence ends inside an item, at byte {at}", found.tag)
        raw, length = encoding.unpack_tag_length(buffer, at)
        tag = encoding.raw_tag(raw)
        if tag == SEQUENCE_DELIMITER and at + _HEAD == end:
            break
        if tag != ITEM:
            raise DatasetError(f"no item in a sequence at byte {at}", found.tag)
        at += _HEAD
        if length == UNDEFINED_LENGTH:
            after = skip_undefined(buffer, at, end, encoding, in_item=True)
            items.append((at, after - _HEAD))
        else:
            after = at + length
            if after > end:
                raise DatasetError(f"{length} bytes of an item, {end - at} are there", found.tag)
            items.append((at, _without_delimiter(buffer, at, after, encoding)))
        at = after
    return items


def _without_delimiter(buffer: Buffer, at: int, end: int, encoding: Encoding) -> int:
    """Some writers delimit an item that has a length."""
    if end - at >= _HEAD:
        raw, length = encoding.unpack_tag_length(buffer, end - _HEAD)
        if encoding.raw_tag(raw) == ITEM_DELIMITER and length == 0:
            return end - _HEAD
    return end


class Writer:
    """Writes heads of elements in one encoding."""

    def __init__(self, encoding: Encoding) -> None:
        order = "<" if encoding.byteorder == "little" else ">"
        self.encoding = encoding
        self._tag_length = struct.Struct(order + "HHL").pack
        self._short = struct.Struct(order + "HH2sH").pack
        self._long = struct.Struct(order + "HH2sHL").pack

    def element(self, tag: int, vr: bytes, value: bytes) -> bytes:
        """One element."""
        group, number = tag >> 16, tag & 0xFFFF
        if not self.encoding.explicit:
            return self._tag_length(group, number, len(value)) + value
        if vr in LONG:
            return self._long(group, number, vr, 0, len(value)) + value
        if len(value) > 0xFFFF:
            raise DatasetError("a value is longer than its VR allows", tag)
        return self._short(group, number, vr, len(value)) + value

    def head(self, tag: int, vr: bytes, length: int) -> bytes:
        """The head of an element whose VR has a long form.

        Args:
            length: of its value, in bytes.
        """
        group, number = tag >> 16, tag & 0xFFFF
        if not self.encoding.explicit:
            return self._tag_length(group, number, length)
        return self._long(group, number, vr, 0, length)

    def item(self, content: bytes) -> bytes:
        """One item of a sequence."""
        return self._tag_length(0xFFFE, 0xE000, len(content)) + content


LONG: Final = frozenset(b"OB OD OF OL OV OW SQ SV UC UN UR UT UV".split())
