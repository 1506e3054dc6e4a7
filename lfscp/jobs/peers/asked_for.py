"""Tells whether a match is one that was asked for: a peer may answer with others, or all it has.

A retrieve would take them. Rule: a DICOMweb server may pass over a key that it does not know
(PS3.18 section 8.3.4.1), so of one more keys are compared.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from lfscp.scu.dicomweb.peer import DICOMwebPeer

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

    from lfscp.jobs.peers.described import JobPeer

_OF_ALL: Final = ("StudyInstanceUID",)
_OF_DICOMWEB: Final = (*_OF_ALL, "PatientID", "AccessionNumber")


def other_than_asked(peer: JobPeer, match: Dataset, keys: Mapping[str, Any]) -> str:
    """The keyword of a match whose value is not that of its key; empty if all fit."""
    compared = _OF_DICOMWEB if isinstance(peer, DICOMwebPeer) else _OF_ALL
    for keyword in compared:
        asked = _single_values(keys.get(keyword))
        value = _plain(match.get(keyword))
        if asked and value and value not in asked:
            return keyword
    return ""


def other_than_listed(match: Dataset, keys: Mapping[str, Any], listed: str) -> str:
    """The keyword of a list, if a match has another value than the one that was asked for.

    A peer that does not compare this key sends all that it has, and a list is meant to be short.

    Args:
        keys: one value of the list among them.
        listed: "" if there is no list.
    """
    if not listed or _plain(match.get(listed)) == _plain(keys[listed]):
        return ""
    return listed


def is_single(value: Any) -> bool:
    """Whether a key's value is one value, without wildcards."""
    return isinstance(value, str | int) and bool(value) and not set("*?\\") & set(str(value))


def _single_values(key: Any) -> frozenset[str]:
    """The values of a key; none if it has none, or a wildcard."""
    values = key if isinstance(key, list | tuple) else str(key or "").split("\\")
    texts = frozenset(_plain(each) for each in values) - {""}
    return texts if all(is_single(each) for each in texts) else frozenset()


def _plain(value: Any) -> str:
    return str(value or "").strip(" \0").casefold()
