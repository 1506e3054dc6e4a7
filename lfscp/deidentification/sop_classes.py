"""Tells which SOP classes can be de-identified: those of the standard that hold no documents."""

from __future__ import annotations

from functools import lru_cache
from typing import Final

from pydicom._uid_dict import UID_dictionary

from lfscp.deidentification.errors import HeldBackError

_STORAGE: Final = "1.2.840.10008.5.1.4.1.1."
_DOCUMENTS: Final = _STORAGE + "104."
_DIRECTORY: Final = "1.2.840.10008.1.3.10"
_INVENTORY: Final = _STORAGE + "201."
_SOUND: Final = frozenset({_STORAGE + "9.4.1", _STORAGE + "9.4.2"})


@lru_cache(maxsize=1024)
def _reason(sop_class_uid: str) -> str:
    """Why a class is held back; empty if it is not."""
    if sop_class_uid == _DIRECTORY:
        return "it is a DICOMDIR"
    if sop_class_uid.startswith(_DOCUMENTS):
        return "it is an encapsulated document, which cannot be cleaned"
    if sop_class_uid.startswith(_INVENTORY):
        return "it is an inventory of an archive"
    if sop_class_uid in _SOUND:
        return "it is a recording of sound, and a voice tells of a person"
    name, kind = UID_dictionary.get(sop_class_uid, ("", ""))[:2]
    is_stored = sop_class_uid.startswith(_STORAGE) and kind == "SOP Class"
    if is_stored and ("Storage" in name or not name):
        return ""
    return "its SOP class is not one of the standard's for storage"


def require_known_class(sop_class_uid: str) -> None:
    """Refuse an object of a class that cannot be de-identified.

    Raises:
        HeldBackError: it is a document, a directory, or of a class that is not known.
    """
    if reason := _reason(sop_class_uid):
        raise HeldBackError(reason)
