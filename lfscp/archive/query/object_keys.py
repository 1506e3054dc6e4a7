"""Reads the keys of a query that the index lacks and the objects have.

Rules: only at IMAGE level, where one match is one object; only what stands before Pixel Data; no
private attributes, whose block differs from object to object. Such a key is returned and never
matched: a value in it is one that the query names as unsupported (PS3.4 section C.2.2.1.3).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from pydicom.datadict import dictionary_has_tag, dictionary_VR, repeater_has_tag

from lfscp.archive.query.keys import UNIVERSAL, Match
from lfscp.dicom.reading import identifiers
from lfscp.dicom.reading.identifiers import Identifier
from lfscp.dicom.values.attributes import SPECIFIC_CHARACTER_SET, TEXT_VRS

FIRST_BULK: Final = 0x7FE00000  # Pixel Data and what replaces it; nothing behind is read
MAX_DEPTH: Final = 16  # of sequences in sequences, in keys and in objects
_FIRST: Final = 0x00080000  # commands, file meta and directories are in no object's dataset
# Of the archive, not of objects: Query/Retrieve View, Retrieve URL, Available Transfer Syntax UID,
# Storage Media File-set ID and UID. Specific Character Set is the response's.
_OF_NO_OBJECT: Final = frozenset(
    {SPECIFIC_CHARACTER_SET, 0x00080053, 0x00081190, 0x00083002, 0x00880130, 0x00880140}
)


@dataclass(frozen=True, slots=True)
class ObjectKey:
    """One attribute that is read from the object of each match.

    Args:
        items: of a sequence, the keys of its items; None for whole items.
        match: of a sequence that the index knows in part, which items are wanted.
    """

    tag: int
    items: tuple[ObjectKey, ...] | None = None
    match: Match = UNIVERSAL


def is_in_objects(tag: int) -> bool:
    """Whether an attribute may be read from an object."""
    is_private = bool(tag >> 16 & 1)
    if is_private or not _FIRST <= tag < FIRST_BULK or tag in _OF_NO_OBJECT:
        return False
    return _is_known(tag)


def _is_known(tag: int) -> bool:
    return dictionary_has_tag(tag) or repeater_has_tag(tag)


def object_key(identifier: Identifier, tag: int) -> ObjectKey:
    """Read one key; of a sequence with one item also the keys in it.

    Raises:
        DatasetError: a sequence key, received as bytes, is broken inside.
    """
    return _key(identifier, tag, 1)


def _key(identifier: Identifier, tag: int, depth: int) -> ObjectKey:
    if vr_by_dictionary(tag) != "SQ" or depth > MAX_DEPTH:
        return ObjectKey(tag)
    items = identifiers.items(identifier, tag)
    if len(items) != 1:
        return ObjectKey(tag)
    asked = [each for each in identifiers.tags(items[0]) if each != SPECIFIC_CHARACTER_SET]
    if not asked:
        return ObjectKey(tag)
    wanted = filter(is_in_objects, asked)
    return ObjectKey(tag, tuple(_key(items[0], each, depth + 1) for each in wanted))


def is_unsupported(identifier: Identifier, tag: int, depth: int = 1) -> bool:
    """Whether a key asks for more than the object's value: for one that it would have to match.

    That is anything but zero length, asterisks and empty items. In items, it may also be an
    attribute that is not read from objects.
    """
    if not is_in_objects(tag):
        return True
    vr = vr_by_dictionary(tag)
    if vr == "SQ" and depth <= MAX_DEPTH:
        return any(
            is_unsupported(item, each, depth + 1)
            for item in identifiers.items(identifier, tag)
            for each in identifiers.tags(item)
            if each != SPECIFIC_CHARACTER_SET
        )
    if vr in TEXT_VRS:
        return bool(identifiers.text(identifier, tag, vr).strip("*\\"))
    return not identifiers.is_empty(identifier, tag)


@lru_cache(maxsize=8192)
def vr_by_dictionary(tag: int) -> str:
    """The VR by the data dictionary, which may leave a choice ("US or SS"); UN when unknown."""
    if tag >> 16 & 1:
        return "LO" if 0x10 <= tag & 0xFFFF <= 0xFF else "UN"
    return dictionary_VR(tag) if _is_known(tag) else "UN"
