"""Decides what becomes of an attribute: the table, the options and the VR, put together.

Rules: an option that keeps stands before one that cleans, and that before the Basic Profile. Of a
compound action such as X/Z/D the form is taken that is valid for every type: D before Z before X,
since a dummy is a valid value of types 1, 2 and 3. What no dictionary knows goes, and so does what
is in retired groups that repeat. An attribute that the table lacks is caught by its VR if it is a
name, a date, a UID, a title or an address, and by `beyond_table` if it tells of a person.
Source: PS3.15 section E.1.1 and table E.1-1.
"""

from __future__ import annotations

from enum import Enum, auto
from typing import Final

from lfscp.deidentification import beyond_table
from lfscp.deidentification.options import Option
from lfscp.deidentification.table import Row, is_of_repeating_group, row_of, vr_of


class Action(Enum):
    """What becomes of one element."""

    KEEP = auto()  # if its value is valid for its VR; else as DUMMY
    REMOVE = auto()
    EMPTY = auto()
    DUMMY = auto()
    PSEUDONYM = auto()  # a dummy that tells patients apart
    UID = auto()
    SHIFT = auto()  # a date or a time
    CLEAN = auto()  # a text of which known medical words stay
    ITEMS = auto()  # a sequence whose items are gone through
    DUMMY_ITEMS = auto()  # the same, and no text or number of them stays
    CODES = auto()  # a sequence of codes, of which known ones stay
    DESCRIPTIONS = auto()  # a sequence whose codes and texts are cleaned as descriptors are
    CONTENT = auto()  # a sequence of content items of a structured report
    OTHER_CONTENT = auto()  # the same elsewhere, where items need no value type


PATIENT_NAME: Final = 0x00100010
PATIENT_ID: Final = 0x00100020
CONTENT_SEQUENCE: Final = 0x0040A730
TEXT_VALUE: Final = 0x0040A160
TIMEZONE: Final = 0x00080201
# What we write ourselves, and what else no table names: Encrypted Attributes, signatures, MACs.
_ALWAYS_REMOVED: Final = frozenset(
    {
        0x00080001,
        0x00120062,
        0x00120063,
        0x00120064,
        0x00280303,
        0x04000500,
        0x04000510,
        0x04000520,
        0x4FFE0001,
    }
)
_TEXT: Final = frozenset(["LO", "SH", "LT", "ST", "UC", "UT"])
_DATES: Final = frozenset(["DA", "DT", "TM"])
_BY_VR: Final = {
    "PN": Action.DUMMY,
    "AE": Action.DUMMY,
    "UR": Action.DUMMY,
    "UI": Action.UID,
    "SQ": Action.ITEMS,
}


class Profile:
    """The Basic Profile with some options."""

    def __init__(self, options: frozenset[Option]) -> None:
        self.options = options

    def action(self, tag: int) -> Action:
        """What becomes of a standard attribute.

        Returns:
            REMOVE for private ones and those of curves and overlays, which are asked for elsewhere.
        """
        group = tag >> 16
        if group & 1 or group < 8 or tag & 0xFFFF == 0 or tag in _ALWAYS_REMOVED:
            return Action.REMOVE
        vr = vr_of(tag)
        if is_of_repeating_group(tag) or not vr or tag in beyond_table.REMOVED:
            return Action.REMOVE
        if tag == TEXT_VALUE or tag in beyond_table.REPLACED:  # prose, in whatever content item
            return Action.DUMMY
        row = row_of(tag)
        return self._by_vr(vr) if row is None else self._by_row(tag, vr, row)

    def _by_vr(self, vr: str) -> Action:
        if vr in _DATES:
            return self._date()
        if vr == "UI" and Option.RETAIN_UIDS in self.options:
            return Action.KEEP
        return _BY_VR.get(vr, Action.KEEP)

    def _date(self) -> Action:
        if Option.RETAIN_FULL_DATES in self.options:
            return Action.KEEP
        return Action.SHIFT if Option.RETAIN_MODIFIED_DATES in self.options else Action.DUMMY

    def _by_row(self, tag: int, vr: str, row: Row) -> Action:
        chosen = {action for option, action in row.by_option.items() if option in self.options}
        if "K" in chosen:
            return Action.ITEMS if vr == "SQ" else Action.KEEP
        if "C" in chosen and (cleaned := _cleaned(tag, vr)) is not None:
            return cleaned
        if tag == CONTENT_SEQUENCE:
            return Action.CONTENT
        if tag in (PATIENT_NAME, PATIENT_ID):
            return Action.PSEUDONYM
        return _basic(row.basic, vr)


def _cleaned(tag: int, vr: str) -> Action | None:
    """What "clean" means; None if there is no way to clean it, and the Basic Profile decides."""
    if tag == TIMEZONE:
        return Action.KEEP
    if vr in _DATES:
        return Action.SHIFT
    if vr in _TEXT:
        return Action.CLEAN
    if vr != "SQ":
        return None
    if tag == 0x00700001:  # graphics stay, and their texts have rows of their own
        return Action.ITEMS
    if tag == CONTENT_SEQUENCE:
        return Action.CONTENT
    if tag in _OTHER_CONTENT:
        return Action.OTHER_CONTENT
    return Action.DESCRIPTIONS if tag in _DESCRIPTIONS else Action.CODES


# Acquisition Context, Specimen Preparation and Waveform Annotation Sequence.
_OTHER_CONTENT: Final = frozenset({0x00400555, 0x00400610, 0x0040B020})
# Request Attributes and Prescription Notes Sequence: their items are no codes, but have such.
_DESCRIPTIONS: Final = frozenset({0x00400275, 0x30100081})


def _basic(action: str, vr: str) -> Action:
    forms = action.split("/")
    if "U" in forms or "U*" in forms or ("D" in forms and vr == "UI"):
        return Action.ITEMS if vr == "SQ" else Action.UID
    if "D" in forms:
        return Action.DUMMY_ITEMS if vr == "SQ" else Action.DUMMY
    return Action.EMPTY if "Z" in forms else Action.REMOVE
