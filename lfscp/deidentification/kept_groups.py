"""The private elements and overlays that options keep; all others of their groups go.

Source: PS3.15 sections E.3.3 and E.3.10.
"""

from __future__ import annotations

import re
from typing import Final

from lfscp.deidentification import safe_private
from lfscp.deidentification.layout import Found, Writer
from lfscp.deidentification.options import Option
from lfscp.deidentification.values import PATTERNS, padded
from lfscp.dicom.encoding.elements import Buffer
from lfscp.dicom.encoding.value_representations import WIDTH

_OVERLAY_TYPE: Final = 0x0040
_OVERLAY_KEPT: Final = {
    0x0010: b"US",
    0x0011: b"US",
    0x0015: b"IS",
    0x0040: b"CS",
    0x0050: b"SS",
    0x0051: b"US",
    0x0100: b"US",
    0x0102: b"US",
    0x3000: b"OW",
}
_MOST_PRIVATE: Final = 64  # bytes; a matrix needs 48, and more numbers could be a text


class KeptGroups:
    """Writes what stays of private groups and overlays, with some options."""

    def __init__(self, options: frozenset[Option], writer: Writer) -> None:
        self._writer = writer
        self._keeps_private = Option.RETAIN_SAFE_PRIVATE in options
        self._keeps_overlays = Option.CLEAN_GRAPHICS in options

    def private(
        self,
        buffer: memoryview,
        each: Found,
        around: list[Found],
        names: re.Pattern[bytes] | None = None,
    ) -> bytes:
        """A private element that is safe, or the creator of such; else nothing.

        Args:
            around: the elements of the same dataset or item.
            names: what finds names of people, none of which stays.
        """
        if not self._keeps_private or each.is_undefined or each.end - each.value > _MOST_PRIVATE:
            return b""
        group, number = each.tag >> 16, each.tag & 0xFFFF
        if 0x10 <= number <= 0xFF:
            name = text_of(buffer, each)
            is_safe = safe_private.is_creator(group, name)
            value = padded(name.encode("latin_1"), b"LO")
            return self._writer.element(each.tag, b"LO", value) if is_safe else b""
        creator = next((one for one in around if one.tag == group << 16 | number >> 8), None)
        if creator is None or number < 0x1000:
            return b""
        vr = safe_private.vr_of(group, text_of(buffer, creator), number & 0xFF)
        if vr is None or each.declared not in (b"", b"UN", vr):
            return b""
        if vr == b"CS" and names is not None and names.search(buffer, each.value, each.end):
            return b""
        return self._checked(buffer, each, vr)

    def overlay(self, buffer: memoryview, each: Found, around: list[Found]) -> bytes:
        """Overlays that mark a region stay, without their texts; those that are graphics go."""
        if not self._keeps_overlays:
            return b""
        kind = next(
            (one for one in around if one.tag == each.tag & 0xFFFF0000 | _OVERLAY_TYPE), None
        )
        vr = _OVERLAY_KEPT.get(each.tag & 0xFFFF)
        if kind is None or text_of(buffer, kind) != "R" or vr is None or each.is_undefined:
            return b""
        declared = each.declared if each.declared in (b"OB", b"OW") and vr == b"OW" else vr
        return self._checked(buffer, each, declared)

    def _checked(self, buffer: memoryview, each: Found, vr: bytes) -> bytes:
        """An element whose value is valid for its VR; else nothing."""
        value = bytes(buffer[each.value : each.end])
        pattern = PATTERNS.get(vr)
        if len(value) % WIDTH.get(vr, 1) or (pattern and not pattern.fullmatch(value)):
            return b""
        return self._writer.element(each.tag, vr, padded(value, vr))


def text_of(buffer: Buffer, each: Found) -> str:
    """The text of an element, whatever its character set."""
    return bytes(buffer[each.value : each.end]).decode("latin_1").strip(" \0")
