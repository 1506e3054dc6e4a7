"""Datasets as a model, and what they are in each encoding; written apart from lfscp's own code."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

IMPLICIT, EXPLICIT, BIG = "implicit", "explicit", "big"
UNDEFINED = 0xFFFFFFFF
LONG = {"OB", "OD", "OF", "OL", "OV", "OW", "SQ", "SV", "UC", "UN", "UR", "UT", "UV"}
NUMBERS = {"AT": "H", "OW": "H", "SS": "h", "US": "H", "FL": "f", "OF": "f", "OL": "L", "SL": "l"}
NUMBERS |= {"UL": "L", "FD": "d", "OD": "d", "OV": "Q", "SV": "q", "UV": "Q"}


@dataclass
class Value:
    """An element: bytes, or numbers of its VR."""

    tag: int
    vr: str
    value: bytes | list[int] | list[float]

    def encoded(self, encoding: str) -> bytes:
        if isinstance(self.value, bytes):
            content = self.value
        else:
            order = ">" if encoding == BIG else "<"
            content = struct.pack(f"{order}{len(self.value)}{NUMBERS[self.vr]}", *self.value)
        return head(self.tag, self.vr, len(content), encoding) + content


@dataclass
class Item:
    """An item of a sequence."""

    elements: list[Value | Sequence]
    is_undefined: bool = False

    def encoded(self, encoding: str) -> bytes:
        content = b"".join(each.encoded(encoding) for each in self.elements)
        order = ">" if encoding == BIG else "<"
        if self.is_undefined:
            begin = struct.pack(order + "HHL", 0xFFFE, 0xE000, UNDEFINED)
            return begin + content + struct.pack(order + "HHL", 0xFFFE, 0xE00D, 0)
        return struct.pack(order + "HHL", 0xFFFE, 0xE000, len(content)) + content


@dataclass
class Sequence:
    """A sequence."""

    tag: int
    items: list[Item] = field(default_factory=list)
    is_undefined: bool = False

    def encoded(self, encoding: str) -> bytes:
        content = b"".join(item.encoded(encoding) for item in self.items)
        if not self.is_undefined:
            return head(self.tag, "SQ", len(content), encoding) + content
        order = ">" if encoding == BIG else "<"
        end = struct.pack(order + "HHL", 0xFFFE, 0xE0DD, 0)
        return head(self.tag, "SQ", UNDEFINED, encoding) + content + end


def head(tag: int, vr: str, length: int, encoding: str) -> bytes:
    """The header of an element."""
    order = ">" if encoding == BIG else "<"
    parts = struct.pack(order + "HH", tag >> 16, tag & 0xFFFF)
    if encoding == IMPLICIT:
        return parts + struct.pack("<L", length)
    if vr in LONG:
        return parts + vr.encode() + b"\0\0" + struct.pack(order + "L", length)
    return parts + vr.encode() + struct.pack(order + "H", length)


def dataset(
    elements: list[Value | Sequence], encoding: str, *, group_lengths: bool = False
) -> bytes:
    """A whole dataset, with the length of each group in front of it when asked for."""
    if not group_lengths:
        return b"".join(each.encoded(encoding) for each in elements)
    encoded = b""
    for group in sorted({each.tag >> 16 for each in elements}):
        content = b"".join(each.encoded(encoding) for each in elements if each.tag >> 16 == group)
        encoded += Value(group << 16, "UL", [len(content)]).encoded(encoding) + content
    return encoded
