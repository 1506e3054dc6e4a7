"""Reads the keys of a query's identifier as text, however its elements were built or received.

An identifier is a pydicom Dataset or, read here from the bytes of a request, a
`ReceivedIdentifier`: the way through pydicom takes ten times as long as the query itself.

Rules: values that break their VR ("1*" in an IS, a range in a DA) are read without complaint,
since in a query they may mean something; padding goes; several values keep their backslash.
pydicom's own conversion is not used for received identifiers, since it warns and raises there.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Literal

from pydicom.dataelem import DataElement, RawDataElement
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue

from lfscp.dicom.encoding.elements import ITEM, Encoding, elements, items_of
from lfscp.dicom.encoding.transfer_syntaxes import (
    EXPLICIT_VR_BIG_ENDIAN,
    EXPLICIT_VR_LITTLE_ENDIAN,
    IMPLICIT_VR_LITTLE_ENDIAN,
)
from lfscp.dicom.errors import DatasetError
from lfscp.dicom.reading.header import encoding_of
from lfscp.dicom.values.attributes import (
    LEADING_SPACE_VRS,
    SINGLE_VALUE_VRS,
    SPECIFIC_CHARACTER_SET,
)
from lfscp.dicom.values.charset import codecs_of, decode

_PLAIN: Final = (IMPLICIT_VR_LITTLE_ENDIAN, EXPLICIT_VR_LITTLE_ENDIAN, EXPLICIT_VR_BIG_ENDIAN)
MAX_ELEMENTS: Final = 30_000  # with items and delimiters
_BINARY_LENGTH: Final = {"US": 2, "UL": 4}


class ExcessiveIdentifierError(DatasetError):
    """The identifier has more elements than any query or retrieve needs."""


class _Steps:
    """Counts the elements, items and delimiters that are met in one walk."""

    def __init__(self, tag: int | None = None) -> None:
        self._tag = tag
        self._left = MAX_ELEMENTS

    def look(self) -> None:
        self._left -= 1
        if self._left < 0:
            raise ExcessiveIdentifierError(
                f"more than {MAX_ELEMENTS} elements and items", self._tag
            )


@dataclass(frozen=True, slots=True)
class ReceivedIdentifier:
    """An identifier as it was received: tag to value, padding and all.

    Args:
        items: tag to the encoding of a sequence's items.
    """

    values: dict[int, bytes]
    items: dict[int, Encoding]
    byteorder: Literal["little", "big"]

    def __contains__(self, tag: int) -> bool:
        return tag in self.values

    def __len__(self) -> int:
        return len(self.values)


Identifier = Dataset | ReceivedIdentifier


def read_identifier(data: bytes, transfer_syntax_uid: str) -> ReceivedIdentifier:
    """Read an identifier's elements; nothing is decoded yet.

    Raises:
        ExcessiveIdentifierError: it has too many elements.
        DatasetError: it does not follow its transfer syntax, or that one is another than
            implicit, explicit and big endian. pydicom may still make something of it.
    """
    if transfer_syntax_uid not in _PLAIN:
        raise DatasetError("the transfer syntax is none of the three plain ones")
    return _received(data, 0, len(data), encoding_of(transfer_syntax_uid))


def _received(data: bytes, at: int, end: int, encoding: Encoding) -> ReceivedIdentifier:
    values: dict[int, bytes] = {}
    items: dict[int, Encoding] = {}
    last = -1
    for tag, begin, until, inner in elements(data, at, end, encoding, _Steps().look):
        if tag <= last or tag >= ITEM & 0xFFFF0000:
            raise DatasetError("elements out of order", tag)
        last = tag
        values[tag] = data[begin:until]
        if inner is not None:
            items[tag] = inner
    return ReceivedIdentifier(values, items, encoding.byteorder)


def character_set(identifier: Identifier) -> str:
    """The identifier's Specific Character Set, several values with backslash; may be empty."""
    if SPECIFIC_CHARACTER_SET not in identifier:
        return ""
    if isinstance(identifier, ReceivedIdentifier):
        return text(identifier, SPECIFIC_CHARACTER_SET, "CS")
    return _text_of(identifier.get_item(SPECIFIC_CHARACTER_SET), "CS", "")


def tags(identifier: Identifier) -> Iterator[int]:
    """The tags in ascending order, without group lengths."""
    if isinstance(identifier, ReceivedIdentifier):
        return (tag for tag in identifier.values if tag & 0xFFFF)
    return (int(tag) for tag in sorted(identifier.keys()) if tag & 0xFFFF)


def text(identifier: Identifier, tag: int, vr: str, specific_character_set: str = "") -> str:
    """One element's value as text, without padding; empty when absent.

    Args:
        vr: the attribute's VR by the data dictionary.
        specific_character_set: see `character_set`; used for what was received.
    """
    if isinstance(identifier, ReceivedIdentifier):
        raw = identifier.values.get(tag)
        if not raw:
            return ""
        little_endian = identifier.byteorder == "little"
        return _stripped(_decoded(raw, vr, specific_character_set, little_endian), vr)
    if tag not in identifier:
        return ""
    return _text_of(identifier.get_item(tag), vr, specific_character_set)


def is_empty(identifier: Identifier, tag: int) -> bool:
    """Whether an element has zero length."""
    if isinstance(identifier, ReceivedIdentifier):
        return not identifier.values[tag]
    value = getattr(identifier.get_item(tag), "value", None)
    return value is None or (isinstance(value, bytes | str | list | MultiValue) and not value)


def content(identifier: Identifier, tag: int) -> bytes:
    """One element's value before it is decoded; of a built one, as UTF-8."""
    if isinstance(identifier, ReceivedIdentifier):
        return identifier.values[tag]
    value = getattr(identifier.get_item(tag), "value", None)
    if isinstance(value, bytes):
        return value
    if isinstance(value, MultiValue | list | tuple):
        value = "\\".join(str(one) for one in value)
    return str("" if value is None else value).encode("utf-8", "replace")


def count_items(identifier: Identifier, tag: int) -> int:
    """How many items a sequence element has.

    Raises:
        DatasetError: a received sequence is broken.
    """
    if isinstance(identifier, ReceivedIdentifier):
        encoding = identifier.items.get(tag)
        return 0 if encoding is None else len(_spans(identifier.values[tag], tag, encoding))
    return len(items(identifier, tag))


def items(identifier: Identifier, tag: int) -> list[Dataset] | list[ReceivedIdentifier]:
    """The items of a sequence element; none when it is empty.

    Raises:
        DatasetError: a received sequence is broken.
    """
    if isinstance(identifier, ReceivedIdentifier):
        value, encoding = identifier.values[tag], identifier.items.get(tag)
        if encoding is None:
            return []
        spans = _spans(value, tag, encoding)
        return [_received(value, begin, end, encoding) for begin, end in spans]
    value = identifier[tag].value
    return list(value) if value else []


def _spans(value: bytes, tag: int, encoding: Encoding) -> list[tuple[int, int]]:
    return items_of(value, encoding, _Steps(tag).look)


def _text_of(element: DataElement | RawDataElement | None, vr: str, charset: str) -> str:
    if element is None or element.value is None:
        return ""
    value = element.value
    if isinstance(value, bytes):
        value = _decoded(value, vr, charset, getattr(element, "is_little_endian", True))
    elif isinstance(value, MultiValue | list | tuple):
        value = "\\".join(str(one) for one in value)
    return _stripped(str(value), vr)


def _stripped(text: str, vr: str) -> str:
    if vr in LEADING_SPACE_VRS:
        text = text.rstrip(" \0")
    elif "\\" not in text or vr in SINGLE_VALUE_VRS:
        text = text.strip(" \0")
    else:
        text = "\\".join([one.strip(" \0") for one in text.split("\\")])
    return text.replace("\0", "\ufffd")  # as the index keeps it


def _decoded(value: bytes, vr: str, charset: str, little_endian: bool) -> str:
    if vr in _BINARY_LENGTH:
        size = _BINARY_LENGTH[vr]
        order: Literal["little", "big"] = "little" if little_endian else "big"
        numbers = (value[at : at + size] for at in range(0, len(value), size))
        return "\\".join(str(int.from_bytes(number, order)) for number in numbers)
    return decode(value, codecs_of(charset), vr)
