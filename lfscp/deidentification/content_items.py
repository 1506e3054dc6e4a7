"""What becomes of the values of content items of structured reports, by value type.

Texts and names are always replaced: nobody can clean prose for sure. Without the option for
structured content the measured values and codes are taken out as well, so that the tree is there
and says nothing. An item of an unknown value type is held back with its object.
Source: PS3.3 section C.17.3; PS3.15 section E.3.4.
"""

from __future__ import annotations

from typing import Final

from lfscp.deidentification.actions import Action
from lfscp.deidentification.errors import HeldBackError
from lfscp.deidentification.layout import Found
from lfscp.dicom.encoding.elements import Buffer

VALUE_TYPE: Final = 0x0040A040
CONCEPT_NAME: Final = 0x0040A043
_CONCEPT_CODE: Final = 0x0040A168
_MEASURED_VALUE: Final = 0x0040A300
_MEASUREMENT_UNITS: Final = 0x004008EA
_QUALIFIER: Final = 0x0040A301
_GRAPHIC_DATA: Final = 0x00700022
_BY_REFERENCE: Final = 0x0040DB73
_KNOWN: Final = frozenset(
    b"CODE COMPOSITE CONTAINER DATE DATETIME IMAGE NUM PNAME SCOORD SCOORD3D TCOORD TEXT TIME"
    b" UIDREF WAVEFORM".split()
)
_ALWAYS: Final = {
    CONCEPT_NAME: Action.CODES,
    _MEASUREMENT_UNITS: Action.CODES,
    _QUALIFIER: Action.CODES,
}
_CLEANED: Final = {**_ALWAYS, _CONCEPT_CODE: Action.CODES}
_DESCRIPTIONS: Final = {0x00080104: Action.CLEAN, 0x00080108: Action.CLEAN}
_REPLACED: Final = {
    **_ALWAYS,
    _CONCEPT_CODE: Action.DUMMY_ITEMS,
    _MEASURED_VALUE: Action.EMPTY,
    _GRAPHIC_DATA: Action.DUMMY,
}
ROOT: Final = {CONCEPT_NAME: Action.CODES}


class Treated:
    """How far a treatment reaches."""

    @staticmethod
    def spreads(treated: dict[int, Action]) -> bool:
        """Whether it holds for the sequences inside a content item as well."""
        return treated is not ROOT


def value_type_of(buffer: Buffer, found: list[Found]) -> bytes:
    """The value type of a content item; empty if it only refers to another item.

    Raises:
        HeldBackError: it has none, or one that is not known.
    """
    values = {each.tag: each for each in found if each.tag in (VALUE_TYPE, _BY_REFERENCE)}
    if VALUE_TYPE not in values:
        if _BY_REFERENCE in values:
            return b""
        raise HeldBackError("a content item of its structured content has no value type")
    each = values[VALUE_TYPE]
    value_type = bytes(buffer[each.value : each.end]).strip(b" \0")
    if value_type not in _KNOWN:
        raise HeldBackError("a content item of its structured content has an unknown value type")
    return value_type


def treatments_outside(action: Action) -> dict[int, Action]:
    """What is treated otherwise in an item of a sequence that is no report's.

    Args:
        action: how the sequence is cleaned.
    """
    return _DESCRIPTIONS if action is Action.DESCRIPTIONS else _CLEANED


def treatments_of(value_type: bytes, *, cleans: bool) -> dict[int, Action]:
    """What is treated otherwise in a content item than elsewhere.

    Args:
        cleans: whether structured content is cleaned, and not only emptied of what it says.
    """
    return _CLEANED if cleans or not value_type else _REPLACED
