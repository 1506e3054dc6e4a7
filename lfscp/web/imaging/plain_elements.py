"""Reads the elements before the pixels of a dataset that is laid out plainly: fast.

Rules: pydicom's own reader looks at each element for all that may be wrong with it. Here reading
ends where something is not plain, and pydicom reads instead. Private elements are stepped over:
no picture needs them. pydicom converts values and items when they are asked for.
Source: PS3.5 sections 7.1, 7.5 and annex A.
"""

from __future__ import annotations

import struct
from functools import lru_cache
from typing import Final, cast

from pydicom.charset import convert_encodings, default_encoding
from pydicom.datadict import dictionary_VR
from pydicom.dataelem import RawDataElement, convert_raw_data_element, empty_value_for_VR
from pydicom.dataset import Dataset
from pydicom.tag import BaseTag

from lfscp.archive.store.missing_vrs import missing_vrs
from lfscp.dicom.encoding.elements import (
    EXPLICIT_LITTLE,
    SHORT_VRS,
    UNDEFINED_LENGTH,
    Buffer,
    Encoding,
    skip_undefined,
)
from lfscp.dicom.encoding.image_pixel import PIXELS, PixelElement
from lfscp.dicom.errors import DatasetError

_LONG_VRS: Final = b"OB OD OF OL OV OW SQ SV UC UN UR UT UV".split()
_SHORT: Final = {int.from_bytes(vr, "little"): vr.decode("ascii") for vr in SHORT_VRS}
_LONG: Final = {int.from_bytes(vr, "little"): vr.decode("ascii") for vr in _LONG_VRS}
_PIXELS: Final = frozenset(map(EXPLICIT_LITTLE.raw_tag, PIXELS))  # as they stand in the stream
_ITEMS: Final = 0xFFFE  # the group of items and delimiters
_CHARACTER_SET: Final = BaseTag(0x00080005)


class _NotPlainError(Exception):
    """pydicom has to look at it."""


# The head of an element: its tag as it stands in the stream; its VR, None in implicit VR; where its
# value begins; the value's length. No class: making one takes as long as reading the head.
_Head = tuple[int, str | None, int, int]


def plain_header(content: Buffer, at: int, encoding: Encoding) -> Dataset | None:
    """The attributes before the pixels, and where those are, as `read_header` gives them.

    Args:
        content: the file, or its first bytes; the dataset begins at `at`.
        encoding: explicit or implicit VR, little endian.
    Returns:
        None when something is not plain, or the pixels do not begin in these bytes.
    """
    found: dict[BaseTag, RawDataElement] = {}
    try:
        pixels = _collect(content, at, encoding, found)
    except (_NotPlainError, DatasetError, struct.error):
        return None
    header = Dataset(found)  # type: ignore[arg-type, unused-ignore]
    named = found.get(_CHARACTER_SET)
    codecs = default_encoding if named is None else _codecs(named.VR, named.value)
    header.set_original_encoding(not encoding.explicit, True, codecs)
    header.pixel_data_place = _place(pixels)  # type: ignore[attr-defined, unused-ignore]
    return header


def _collect(
    content: Buffer, at: int, encoding: Encoding, found: dict[BaseTag, RawDataElement]
) -> _Head:
    """Collect the elements, and return the head of the pixels."""
    read = _explicit_head if encoding.explicit else _implicit_head
    if not encoding.explicit and bytes(content[at + 4 : at + 6]).isupper():
        raise _NotPlainError  # it has VRs: pydicom goes by them
    end = len(content)
    while True:
        raw, vr, value, length = head = read(content, at)
        if raw in _PIXELS:
            return head
        at = until = value + length
        if length == UNDEFINED_LENGTH or vr == "SQ":
            vr, until, at = _sequence(content, head, encoding)
        group = raw & 0xFFFF
        if at > end or group == _ITEMS:
            raise _NotPlainError
        if group & 1:
            continue
        tag = BaseTag(group << 16 | raw >> 16)
        found[tag] = RawDataElement(
            tag,
            vr,
            until - value,
            bytes(content[value:until]) if until > value else _empty(vr),
            value,
            not encoding.explicit,
            True,
        )


def _explicit_head(content: Buffer, at: int) -> _Head:
    raw, vr, length = EXPLICIT_LITTLE.unpack(content, at)
    name = _SHORT.get(vr)
    if name is not None:
        return raw, name, at + 8, length
    name = _LONG.get(vr)
    if name is None:
        raise _NotPlainError
    return raw, name, at + 12, EXPLICIT_LITTLE.unpack_length(content, at + 8)[0]


def _implicit_head(content: Buffer, at: int) -> _Head:
    raw, length = EXPLICIT_LITTLE.unpack_tag_length(content, at)
    return raw, None, at + 8, length


def _sequence(content: Buffer, head: _Head, encoding: Encoding) -> tuple[str, int, int]:
    """A sequence's VR, where its items end, and where the next element begins."""
    raw, vr, value, length = head
    if vr is None:
        vr = _vr_of(encoding.raw_tag(raw))
    if vr != "SQ":
        raise _NotPlainError
    until = following = value + length
    if length == UNDEFINED_LENGTH:
        following = skip_undefined(content, value, len(content), encoding)
        until = following - 8
    if encoding.explicit and any(
        True for _ in missing_vrs(memoryview(content)[:following], value - 12, encoding)
    ):
        raise _NotPlainError
    return vr, until, following


@lru_cache(maxsize=64)
def _empty(vr: str | None) -> bytes | None:
    return cast("bytes | None", empty_value_for_VR(vr, raw=True))


@lru_cache(maxsize=256)
def _vr_of(tag: int) -> str:
    """The VR of an attribute; empty for an unknown one."""
    try:
        return dictionary_VR(tag)
    except KeyError:
        return ""


def _place(pixels: _Head) -> PixelElement | None:
    """Where the pixels are; None if there are none."""
    raw, vr, value, length = pixels
    if not length:
        return None
    tag = EXPLICIT_LITTLE.raw_tag(raw)
    written = (vr or "OW").encode("ascii")
    return PixelElement(tag, written, value, value + length, length == UNDEFINED_LENGTH)


@lru_cache(maxsize=64)
def _codecs(vr: str | None, value: bytes | None) -> list[str]:
    """Python's names of the character sets that Specific Character Set names."""
    length = len(value or b"")
    raw = RawDataElement(_CHARACTER_SET, vr, length, value, 0, vr is None, True)
    return list(convert_encodings(convert_raw_data_element(raw).value))
