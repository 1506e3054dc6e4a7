"""Keeps in an object what its attributes were, in the Original Attributes Sequence.

Rules: each change adds an item; those that are there stay. An attribute is kept as its element
stood; one that was absent is kept without a value. One in a sequence is kept with that sequence.
Source: PS3.3 section C.12.1.1.9, the Original Attributes Macro.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from lfscp.dicom.values.attributes import SPECIFIC_CHARACTER_SET
from lfscp.rules.coercion.draft import Draft
from lfscp.rules.coercion.values import dictionary_vr

ORIGINAL_ATTRIBUTES: Final = 0x04000561
_MODIFIED_ATTRIBUTES: Final = 0x04000550
_MODIFIED_AT: Final = 0x04000562
_MODIFYING_SYSTEM: Final = 0x04000563
_SOURCE: Final = 0x04000564
_REASON: Final = 0x04000565
_LATIN_1: Final = "ISO_IR 100"  # as which a text is read that names no character set
COERCE: Final = "COERCE"
CORRECT: Final = "CORRECT"


@dataclass(frozen=True, slots=True)
class Modification:
    """Who changes an object, when and why.

    Args:
        system: as the object names it; the node's AE title.
        reason: COERCE, or CORRECT.
        at: as a DT, see `moment`.
        source: where the values that are replaced came from, such as an AE title; may be empty.
    """

    system: str
    reason: str
    at: str
    source: str = ""


def moment(time: datetime) -> str:
    """A moment with its zone as a DT."""
    return time.strftime("%Y%m%d%H%M%S.%f%z")


def keep_originals(draft: Draft, modification: Modification) -> None:
    """Add what is about to change to a draft whose texts are settled."""
    changed = draft.changed
    item = draft.add_item(ORIGINAL_ATTRIBUTES)
    kept = item.add_item(_MODIFIED_ATTRIBUTES)
    for tag in changed:
        element = draft.element(tag)
        if element is not None:
            kept.put_element(tag, element)
        elif tag != SPECIFIC_CHARACTER_SET:
            kept.put_empty(tag, _vr_of(draft, tag))
        elif not all((draft.element(each) or b"").isascii() for each in changed):
            kept.set_text(tag, _LATIN_1)
    item.set_text(_MODIFIED_AT, modification.at)
    item.set_text(_MODIFYING_SYSTEM, modification.system)
    item.set_text(_REASON, modification.reason)
    if modification.source:
        item.set_text(_SOURCE, modification.source)
    else:
        item.put_empty(_SOURCE, "LO")
    draft.settle()


def _vr_of(draft: Draft, tag: int) -> str:
    known = dictionary_vr(tag)
    return draft.vr_of(tag) if known == "UN" else known


def last_modified_at(draft: Draft, system: str) -> str:
    """When a system has coerced an object last, as a DT; empty if it never has.

    It may have been corrected since.
    """
    for item in reversed(draft.items(ORIGINAL_ATTRIBUTES)):
        if item.text(_MODIFYING_SYSTEM) != system:
            break
        if item.text(_REASON) == COERCE:
            return item.text(_MODIFIED_AT)
    return ""
