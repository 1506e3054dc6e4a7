"""Builds objects byte by byte whose every value carries a marker, to see which of them come out."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterable

from pydicom.datadict import DicomDictionary

from lfscp.deidentification.layout import Writer
from lfscp.deidentification.table import rows, vr_of
from lfscp.dicom.encoding.elements import EXPLICIT_LITTLE, Encoding

CT = "1.2.840.10008.5.1.4.1.1.2"
BASIC_TEXT_SR = "1.2.840.10008.5.1.4.1.1.88.11"
UIDS = {0x00080018: "1.2.3.4", 0x0020000D: "1.2.3.5", 0x0020000E: "1.2.3.6"}
MARKER = re.compile(rb"mk[0-9a-f]{8}")
# A kept sequence in a kept sequence: Referenced Series and Referenced Instance Sequence.
OUTER, INNER = 0x00081115, 0x0008114A
_STRUCTURAL = {0x00080005, 0x00080016, 0x0040A730, *UIDS}


def marker(tag: int) -> bytes:
    """The marker of an attribute: small letters and digits that no VR but those of text allows."""
    return b"mk%08x" % tag


def table_tags() -> list[int]:
    """All single attributes of table E.1-1."""
    return sorted(int(row.tag, 16) for row in rows() if re.fullmatch(r"[0-9A-F]{8}", row.tag))


def all_tags() -> list[int]:
    """All attributes that a dataset may have: those of the table and of pydicom's dictionary."""
    tags = {*table_tags(), *DicomDictionary} - _STRUCTURAL
    return sorted(tag for tag in tags if tag >> 16 != 0xFFFE)


def vr(tag: int) -> bytes:
    """The VR that is written."""
    return vr_of(tag).split(" or ")[-1].encode()


def element(
    tag: int, value: bytes, encoding: Encoding = EXPLICIT_LITTLE, as_vr: bytes = b""
) -> bytes:
    """One element."""
    value += b"\0" * (len(value) % 2)
    return Writer(encoding).element(tag, as_vr or vr(tag), value)


def sequence(tag: int, *items: bytes, encoding: Encoding = EXPLICIT_LITTLE) -> bytes:
    """A sequence of these items."""
    writer = Writer(encoding)
    return writer.element(tag, b"SQ", b"".join(writer.item(item) for item in items))


def marked(tags: Iterable[int], encoding: Encoding = EXPLICIT_LITTLE) -> dict[int, bytes]:
    """An element for each tag with its marker; sequences have it in an item."""
    found = {}
    for tag in tags:
        if vr(tag) == b"SQ":
            text = element(0x00104000, marker(tag), encoding)
            name = element(0x00100010, marker(tag), encoding)
            found[tag] = sequence(tag, name + text, encoding=encoding)
        else:
            found[tag] = element(tag, marker(tag), encoding)
    return found


def dataset(
    elements: dict[int, bytes], sop_class: str = CT, encoding: Encoding = EXPLICIT_LITTLE
) -> bytes:
    """A dataset of these elements and the UIDs that every object has."""
    base = {
        0x00080005: element(0x00080005, b"ISO_IR 100", encoding),
        0x00080016: element(0x00080016, sop_class.encode(), encoding),
        **{tag: element(tag, uid.encode(), encoding) for tag, uid in UIDS.items()},
    }
    return b"".join(value for _, value in sorted({**base, **elements}.items()))


def file_of(content: bytes, preamble: bytes = bytes(128), sop_class: str = CT) -> bytes:
    """A DICOM file with a marker in its file meta information."""
    meta = b"".join(
        (
            element(0x00020001, b"\0\1"),
            element(0x00020002, sop_class.encode()),
            element(0x00020003, b"1.2.3.4"),
            element(0x00020010, b"1.2.840.10008.1.2.1"),
            element(0x00020012, b"1.2.3.9"),
            element(0x00020013, b"mk00020013"),
            element(0x00020016, b"mk00020016"),
            element(0x00020102, b"mk00020102"),
        )
    )
    length = element(0x00020000, struct.pack("<L", len(meta)))
    return preamble + b"DICM" + length + meta + content
