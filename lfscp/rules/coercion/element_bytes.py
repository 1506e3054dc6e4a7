"""Elements in their bytes: where those of a dataset stand, and the heads of new ones.

Source: PS3.5 sections 7.1, 7.5.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from lfscp.dicom.encoding.elements import (
    UNDEFINED_LENGTH,
    Encoding,
    element_head,
    skip_undefined,
)
from lfscp.dicom.encoding.value_representations import KNOWN, LONG_FORM
from lfscp.dicom.errors import DatasetError
from lfscp.rules.coercion.values import dictionary_vr

Piece = bytes | memoryview


@dataclass(frozen=True, slots=True)
class Element:
    """An element of the source: where its head, value, end of value and end are."""

    at: int
    value: int
    value_end: int
    end: int
    vr: str
    inner: Encoding | None
    is_undefined: bool


def read_elements(
    source: memoryview, encoding: Encoding, last: int
) -> tuple[dict[int, Element], int]:
    """Find the elements of a dataset or an item, up to a tag.

    Returns:
        The first element of each tag, and where those begin that are not read.
    Raises:
        DatasetError: the dataset is broken before its last tag.
    """
    elements: dict[int, Element] = {}
    at, end = 0, len(source)
    while at < end:
        if end - at < 8:
            if any(source[at:]):
                raise DatasetError(f"the dataset ends inside an element, at byte {at}")
            break
        raw, value, length, inner = element_head(source, at, end, encoding)
        tag = encoding.raw_tag(raw)
        if tag > last or (tag == 0 and not any(source[at:])):
            break
        is_undefined = length == UNDEFINED_LENGTH
        if is_undefined:
            until = skip_undefined(source, value, end, inner or encoding)
        else:
            until = value + length
        if until > end:
            raise DatasetError(f"{length} bytes of value, {end - value} are there", tag)
        value_end = until - 8 if is_undefined else until
        vr = _vr(source, encoding, tag, at)
        if tag not in elements:  # a second one is copied as it is
            found = Element(at, value, value_end, until, vr, inner, is_undefined)
            elements[tag] = found
        at = until
    return elements, at


def _vr(source: memoryview, encoding: Encoding, tag: int, at: int) -> str:
    if encoding.explicit:
        vr = bytes(source[at + 4 : at + 6])
        if vr in KNOWN:
            return vr.decode("ascii")
    return dictionary_vr(tag)


def size_of(pieces: list[Piece]) -> int:
    """How many bytes pieces have together."""
    return sum(len(piece) for piece in pieces)


def item_head(encoding: Encoding, tag: int, length: int) -> bytes:
    """The head of an item, or a delimiter.

    Raises:
        DatasetError: the length does not fit its field.
    """
    order = "<" if encoding.byteorder == "little" else ">"
    return _packed(order + "HHL", tag >> 16, tag & 0xFFFF, length)


def written_head(encoding: Encoding, tag: int, vr: str, length: int) -> bytes:
    """The head of an element.

    Raises:
        DatasetError: the length does not fit its field.
    """
    if not encoding.explicit:
        return item_head(encoding, tag, length)
    order = "<" if encoding.byteorder == "little" else ">"
    group, number, letters = tag >> 16, tag & 0xFFFF, vr.encode()
    if letters in LONG_FORM:
        return _packed(order + "HH2sHL", group, number, letters, 0, length)
    return _packed(order + "HH2sH", group, number, letters, length)


def _packed(form: str, *values: int | bytes) -> bytes:
    try:
        return struct.pack(form, *values)
    except struct.error:
        raise DatasetError("a length does not fit its field any more") from None
