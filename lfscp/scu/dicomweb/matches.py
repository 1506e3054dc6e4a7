"""Makes the matches of a query of those of a search: datasets with the keys that were asked for.

Rules: a value that breaks the JSON model is left out, and the match is not. What was not asked for
is left out too, as a C-FIND would.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import Any, Final

from pydicom.dataset import Dataset

from lfscp.dicom.errors import DatasetError
from lfscp.dicom.models.bulk_data import BulkDataURI
from lfscp.dicom.models.element_tree import Element, Tree, dataset_of
from lfscp.dicom.models.json_reader import JSONModelError, from_json
from lfscp.scu.dicomweb.search_request import PATIENT, SearchRequest

_LEVEL: Final = 0x00080052
_PATIENT_ID: Final = "00100020"
_ISSUER: Final = "00100021"
_OF_PATIENTS: Final = 0x0010  # the group
_MAX_PATIENTS: Final = 1_000_000  # that one query tells apart


class Matches:
    """The matches of one query."""

    def __init__(self, request: SearchRequest) -> None:
        self._request = request
        self._patients: set[bytes] = set()  # digests, since an ID may be very long

    def match_of(self, document: dict[str, Any]) -> Dataset | None:
        """The match; None for a further study of a patient that was given already.

        Raises:
            ValueError: there are too many patients.
        """
        if self._request.level == PATIENT and self._is_known(document):
            return None
        tree = Tree({tag: Element(b"UI", uid) for tag, uid in self._request.named.items()})
        for tag in self._request.wanted:
            if self._request.level == PATIENT and tag >> 16 != _OF_PATIENTS:
                continue
            element = _element(f"{tag:08X}", document)
            if element is not None:
                tree[tag] = element
        tree[_LEVEL] = Element(b"CS", self._request.level)
        return _readable(tree)

    def _is_known(self, document: dict[str, Any]) -> bool:
        """Whether it is of a patient that came before; without an ID each study has its own."""
        patient = _first_text(document, _PATIENT_ID), _first_text(document, _ISSUER)
        if not patient[0]:
            return False
        if len(self._patients) >= _MAX_PATIENTS:
            raise ValueError(f"studies of more than {_MAX_PATIENTS} patients")
        digest = blake2b(repr(patient).encode(), digest_size=16).digest()
        is_known = digest in self._patients
        self._patients.add(digest)
        return is_known


def _readable(tree: Tree) -> Dataset:
    """The dataset, without what none can hold: a text too long for its VR, half characters."""
    try:
        return dataset_of(tree)
    except (DatasetError, UnicodeEncodeError):
        return dataset_of(Tree({tag: each for tag, each in tree.items() if _can_be(tag, each)}))


def _can_be(tag: int, element: Element) -> bool:
    try:
        dataset_of(Tree({tag: element}))
    except (DatasetError, UnicodeEncodeError):
        return False
    return True


def _element(name: str, document: dict[str, Any]) -> Element | None:
    given = document.get(name, document.get(name.lower()))
    if given is None:
        return None
    try:
        element = next(iter(from_json({name: given}, is_object=True).values()), None)
    except JSONModelError:
        return None
    return None if element is None or isinstance(element.value, BulkDataURI) else element


def _first_text(document: dict[str, Any], name: str) -> str:
    element = _element(name, document)
    return element.value.strip() if element and isinstance(element.value, str) else ""
