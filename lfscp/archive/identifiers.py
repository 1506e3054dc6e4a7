"""The keys of a query's identifier as text, however its elements were built or received.

Rules: values that break their VR ("1*" in an IS, a range in a DA) are read without complaint,
since in a query they may mean something; padding goes; several values keep their backslash.
pydicom's own conversion is passed by for what was received, since it warns and raises there.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, Literal

from pydicom.dataelem import DataElement, RawDataElement
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue

from lfscp.archive.charset import codecs_of, decode

SPECIFIC_CHARACTER_SET: Final = 0x00080005
_TEXT_VRS: Final = frozenset({"LO", "LT", "PN", "SH", "ST", "UC", "UT"})  # by character set
_BINARY_LENGTH: Final = {"US": 2, "UL": 4}


def character_set(identifier: Dataset) -> str:
    """The identifier's Specific Character Set, several values with backslash; may be empty."""
    if SPECIFIC_CHARACTER_SET not in identifier:
        return ""
    return _text_of(identifier.get_item(SPECIFIC_CHARACTER_SET), "CS", "")


def tags(identifier: Dataset) -> Iterator[int]:
    """The tags in ascending order, without group lengths."""
    return (int(tag) for tag in sorted(identifier.keys()) if tag & 0xFFFF)


def text(identifier: Dataset, tag: int, vr: str, specific_character_set: str = "") -> str:
    """One element's value as text, without padding; empty when absent.

    Args:
        vr: the attribute's VR by the data dictionary.
        specific_character_set: see `character_set`; used for what was received.
    """
    if tag not in identifier:
        return ""
    return _text_of(identifier.get_item(tag), vr, specific_character_set)


def items(identifier: Dataset, tag: int) -> list[Dataset]:
    """The items of a sequence element; none when it is empty."""
    value = identifier[tag].value
    return list(value) if value else []


def _text_of(element: DataElement | RawDataElement | None, vr: str, charset: str) -> str:
    if element is None or element.value is None:
        return ""
    value = element.value
    if isinstance(value, bytes):
        value = _decoded(value, vr, charset, getattr(element, "is_little_endian", True))
    elif isinstance(value, MultiValue | list | tuple):
        value = "\\".join(str(one) for one in value)
    return "\\".join(one.strip(" \0") for one in str(value).split("\\"))


def _decoded(value: bytes, vr: str, charset: str, little_endian: bool) -> str:
    if vr in _BINARY_LENGTH:
        size = _BINARY_LENGTH[vr]
        order: Literal["little", "big"] = "little" if little_endian else "big"
        numbers = (value[at : at + size] for at in range(0, len(value), size))
        return "\\".join(str(int.from_bytes(number, order)) for number in numbers)
    return decode(value, codecs_of(charset if vr in _TEXT_VRS else ""))
