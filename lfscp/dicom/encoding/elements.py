"""Walks the data elements in a stream of bytes: explicit and implicit VR, both byte orders.

Rules: nothing is copied or decoded; nothing recurses, so that depth of nesting costs a list
entry and no stack; a length that points past the end is an error, never an allocation.
Source: PS3.5 sections 7.1, 7.5 and A.4.
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Callable, Iterator
from typing import Final, Literal

from lfscp.dicom.errors import DatasetError

Buffer = bytes | memoryview | mmap.mmap

UNDEFINED_LENGTH: Final = 0xFFFFFFFF
ITEM: Final = 0xFFFEE000
ITEM_DELIMITER: Final = 0xFFFEE00D
SEQUENCE_DELIMITER: Final = 0xFFFEE0DD
_MAX_DEPTH: Final = 100_000

SHORT_VRS: Final = b"AE AS AT CS DA DS DT FD FL IS LO LT PN SH SL SS ST TM UI UL US".split()
# What some writers put where the VR belongs when they know none. Other readers (DCMTK) take such an
# element as one with a 16-bit length: all later VRs have 32 bits, and these are none.
NO_VRS: Final = frozenset((b"  ", b"\0\0", b"??", b"--"))


class Encoding:
    """How the elements of one transfer syntax are laid out.

    Tags are read as one 32-bit number in the stream's byte order ("raw"): in little endian the
    group is its lower half. `raw_tag` goes from one to the other, either way.
    """

    __slots__ = (
        "byteorder",
        "explicit",
        "group_shift",
        "short_vrs",
        "unpack",
        "unpack_length",
        "unpack_short",
        "unpack_tag_length",
        "vr_sq",
        "vr_un",
    )

    def __init__(self, *, explicit: bool, byteorder: Literal["little", "big"]) -> None:
        order = "<" if byteorder == "little" else ">"
        self.explicit = explicit
        self.byteorder: Literal["little", "big"] = byteorder
        self.unpack = struct.Struct(order + ("LHH" if explicit else "LL")).unpack_from
        self.unpack_tag_length = struct.Struct(order + "LL").unpack_from
        self.unpack_length = struct.Struct(order + "L").unpack_from
        self.unpack_short = struct.Struct(order + "H").unpack_from
        self.short_vrs = frozenset(int.from_bytes(vr, byteorder) for vr in SHORT_VRS)
        self.vr_sq = int.from_bytes(b"SQ", byteorder)
        self.vr_un = int.from_bytes(b"UN", byteorder)
        self.group_shift = 0 if byteorder == "little" else 16

    def raw_tag(self, tag: int) -> int:
        """The number that `unpack` yields for a tag (0x0020000D), or the tag for the number."""
        return (tag & 0xFFFF) << 16 | tag >> 16 if self.byteorder == "little" else tag


IMPLICIT_LITTLE: Final = Encoding(explicit=False, byteorder="little")
EXPLICIT_LITTLE: Final = Encoding(explicit=True, byteorder="little")
EXPLICIT_BIG: Final = Encoding(explicit=True, byteorder="big")


def long_form(buffer: Buffer, at: int, vr: int, end: int, encoding: Encoding) -> tuple[int, int]:
    """Read an explicit element whose VR is none of those with a 16-bit length.

    Returns:
        where its value begins, and its length.
    """
    letters = vr.to_bytes(2, encoding.byteorder)
    if not (letters.isalpha() and letters.isupper()):
        if letters in NO_VRS:
            return at + 8, encoding.unpack_short(buffer, at + 6)[0]
        tag = encoding.raw_tag(encoding.unpack_length(buffer, at)[0])
        raise DatasetError(f"no value representation at byte {at}", tag)
    if at + 12 > end:
        raise DatasetError(f"the dataset ends inside an element, at byte {at}")
    return at + 12, encoding.unpack_length(buffer, at + 8)[0]


def elements(
    buffer: Buffer,
    at: int,
    end: int,
    encoding: Encoding,
    look: Callable[[], None] | None = None,
) -> Iterator[tuple[int, int, int, Encoding | None]]:
    """The elements between two positions: (tag, begin of value, end of value, items' encoding).

    The items' encoding is None unless the value is a sequence or of undefined length; the
    delimiter of an undefined length is not part of the value.

    Args:
        look: see `skip_undefined`; called for these elements as well.
    """
    while at < end:
        if look is not None:
            look()
        if at + 8 > end:
            raise DatasetError(f"the dataset ends inside an element, at byte {at}")
        raw, value, length, inner = element_head(buffer, at, end, encoding)
        if length == UNDEFINED_LENGTH:
            at = skip_undefined(buffer, value, end, inner or encoding, look=look)
            yield encoding.raw_tag(raw), value, at - 8, inner or encoding
            continue
        at = value + length
        if at > end:
            tag = encoding.raw_tag(raw)
            raise DatasetError(f"{length} bytes of value, {end - value} are there", tag)
        yield encoding.raw_tag(raw), value, at, inner


def element_head(
    buffer: Buffer, at: int, end: int, encoding: Encoding
) -> tuple[int, int, int, Encoding | None]:
    """One element's raw tag, begin of value, length, and its items' encoding if it has items."""
    if not encoding.explicit:
        raw, length = encoding.unpack(buffer, at)
        return raw, at + 8, length, encoding
    raw, vr, length = encoding.unpack(buffer, at)
    if vr in encoding.short_vrs:
        return raw, at + 8, length, None
    value, length = long_form(buffer, at, vr, end, encoding)
    if vr == encoding.vr_un:  # what is inside is implicit little endian (PS3.5 section 6.2.2)
        return raw, value, length, IMPLICIT_LITTLE
    return raw, value, length, encoding if vr == encoding.vr_sq else None


def skip_undefined(
    buffer: Buffer,
    at: int,
    end: int,
    encoding: Encoding,
    *,
    in_item: bool = False,
    look: Callable[[], None] | None = None,
) -> int:
    """The position behind the delimiter of a sequence or fragments of undefined length.

    Args:
        buffer: the bytes; `at` is where the value begins, `end` where the bytes end.
        encoding: of the elements inside.
        in_item: `at` is the content of an item of undefined length instead.
        look: called at each element; what it raises ends the walk.
    """
    stack = [(in_item, encoding)]  # (is an item, its encoding) of all that is open
    while at + 8 <= end:
        if look is not None:
            look()
        is_item, encoding = stack[-1]
        raw, length = encoding.unpack_tag_length(buffer, at)
        tag = encoding.raw_tag(raw)
        if tag >> 16 == 0xFFFE:  # the group of items and delimiters
            if tag == (ITEM_DELIMITER if is_item else SEQUENCE_DELIMITER):
                stack.pop()
                if not stack:
                    return at + 8
                at += 8
            elif tag == ITEM and not is_item:
                at += 8
                if length == UNDEFINED_LENGTH:
                    stack.append((True, encoding))
                else:
                    at += length
            else:
                raise DatasetError(f"an item or delimiter out of place at byte {at}", tag)
            continue
        if not is_item:
            raise DatasetError(f"no item in a sequence at byte {at}", tag)
        _, value, length, inner = element_head(buffer, at, end, encoding)
        if length == UNDEFINED_LENGTH:
            if len(stack) > _MAX_DEPTH:
                raise DatasetError(f"sequences nested more than {_MAX_DEPTH} deep", tag)
            stack.append((False, inner or encoding))
            at = value
        else:
            at = value + length
    raise DatasetError("the dataset ends inside a sequence of undefined length")


def items_of(
    value: Buffer, encoding: Encoding, look: Callable[[], None] | None = None
) -> list[tuple[int, int]]:
    """Where the items of a sequence's value begin and end.

    Args:
        look: see `skip_undefined`; called for these items as well.
    """
    return list(each_item(value, encoding, look))


def each_item(
    value: Buffer, encoding: Encoding, look: Callable[[], None] | None = None
) -> Iterator[tuple[int, int]]:
    """The same, one at a time."""
    at = 0
    while at + 8 <= len(value):
        raw, length = encoding.unpack_tag_length(value, at)
        if encoding.raw_tag(raw) != ITEM:
            break
        if look is not None:
            look()
        at += 8
        if length == UNDEFINED_LENGTH:
            end = skip_undefined(value, at, len(value), encoding, in_item=True, look=look)
            yield at, end - 8
            at = end
        else:
            yield at, min(at + length, len(value))
            at += length
