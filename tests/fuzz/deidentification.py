"""Fuzzes de-identification: an object is held back with its reason, or comes out.

What comes out is the same with the same key, and can be read. That it tells nothing
is not asked here: an object whose tags are changed may say that a name is something else.
"""

from __future__ import annotations

from collections.abc import Iterator

from lfscp.deidentification.deidentifier import Deidentifier
from lfscp.deidentification.errors import HeldBackError
from lfscp.deidentification.layout import elements_of
from lfscp.deidentification.options import Option
from lfscp.deidentification.pixels.burned_in import DeviceRule
from lfscp.dicom.encoding.elements import EXPLICIT_BIG, EXPLICIT_LITTLE, IMPLICIT_LITTLE
from lfscp.dicom.part10.media import read_media
from tests.support.marked_objects import CT, OUTER, dataset, element, sequence

_KEY = b"the key of a project"
_SYNTAXES = (
    ("1.2.840.10008.1.2", IMPLICIT_LITTLE),
    ("1.2.840.10008.1.2.1", EXPLICIT_LITTLE),
    ("1.2.840.10008.1.2.2", EXPLICIT_BIG),
    ("1.2.840.10008.1.2.4.50", EXPLICIT_LITTLE),
)
_ALL = frozenset(Option) - {Option.RETAIN_FULL_DATES, Option.RETAIN_UIDS}
_DEIDENTIFIERS = (
    Deidentifier((), _KEY, (DeviceRule((), ()),)),
    Deidentifier(_ALL, _KEY, (DeviceRule((), ((0, 0, 2, 1),)),)),
)
_JPEG = b"\xff\xd8\xff\xfe\0\x0cZyxwv^Qpo \xff\xda\0\x02\xff\xd9"


def run_deidentification(data: bytes) -> None:
    """An object (the first byte chooses syntax and options)."""
    if not data:
        return
    syntax, encoding = _SYNTAXES[data[0] % 4]
    deidentifier = _DEIDENTIFIERS[data[0] // 4 % 2]
    try:
        found = deidentifier.deidentify_dataset(data[1:], syntax)
        content = found.to_bytes()
    except HeldBackError as error:
        if not error.reason:
            raise
        return
    assert deidentifier.deidentify_dataset(data[1:], syntax).to_bytes() == content
    written = memoryview(content)[read_media(memoryview(content)).dataset_offset :]
    elements_of(written, 0, len(written), encoding)  # it can be read, and is in order


def deidentification_seeds() -> Iterator[bytes]:
    """Objects with a name, items, private attributes and pixels, in each syntax."""
    for number, (_, encoding) in enumerate(_SYNTAXES):
        named = element(0x00100010, b"Zyxwv^Qpo", encoding)
        order = encoding.byteorder
        numbers = {0x00280002: 1, 0x00280010: 2, 0x00280011: 2, 0x00280100: 8, 0x00280101: 8}
        elements = {
            tag: element(tag, value.to_bytes(2, order), encoding)
            for tag, value in {**numbers, 0x00280102: 7, 0x00280103: 0}.items()
        }
        elements |= {
            0x00080020: element(0x00080020, b"20240229", encoding),
            0x00081030: element(0x00081030, b"Thorax of Zyxwv", encoding),
            0x00100010: named,
            0x00100020: element(0x00100020, b"MRN987654", encoding),
            0x00280004: element(0x00280004, b"MONOCHROME2", encoding),
            0x00290010: element(0x00290010, b"SIEMENS MR HEADER", encoding, b"LO"),
            OUTER: sequence(OUTER, named, encoding=encoding),
            0x7FE00010: element(0x7FE00010, b"\x01\x02\x03\x04", encoding, b"OW"),
        }
        if number == 3:
            item = b"\xfe\xff\x00\xe0" + len(_JPEG).to_bytes(4, "little") + _JPEG
            head = b"\xe0\x7f\x10\x00OB\0\0\xff\xff\xff\xff\xfe\xff\x00\xe0\0\0\0\0"
            elements[0x7FE00010] = head + item + b"\xfe\xff\xdd\xe0\0\0\0\0"
        for options in (0, 4):
            yield bytes([number + options]) + dataset(elements, CT, encoding)
