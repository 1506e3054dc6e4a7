"""Reads what became of each object of a STOW-RS request (PS3.18 section 10.5.3 and annex I).

Rules: an object counts as sent only if the server says so: by its name in the answer, or by a 200
that names none, which says it of all. An answer that names others does not say it: what would be
left out there is lost without a word. A page or other text with the status 200 says nothing: it
comes from a login page, a proxy, or a server that has no DICOMweb at this URL.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress
from typing import Any, Final

from lfscp.dicom.errors import DatasetError
from lfscp.dicom.models.element_tree import Tree
from lfscp.dicom.models.json_reader import JSONModelError, from_json
from lfscp.dicom.models.native_model_reader import document_of_xml
from lfscp.services.sending.sub_operations import SubOperationOutcome
from lfscp.services.status import is_store_warning

Fate = tuple[SubOperationOutcome, str]  # the outcome, and why not if it failed

_REFERENCED, _FAILED = 0x00081199, 0x00081198
_INSTANCE_UID: Final = 0x00081155
_WARNING_REASON, _FAILURE_REASON = 0x00081196, 0x00081197
_OTHERS: Final = 0x0008119A
_RETRIEVE_URL: Final = 0x00081190
_MODULE_KEYS: Final = frozenset(
    f"{tag:08X}" for tag in (_REFERENCED, _FAILED, _OTHERS, _RETRIEVE_URL)
)
_REASONS: Final = {
    0x0110: "processing failed",
    0x0117: "it is no valid object",
    0x0122: "it does not support the SOP class",
    0x0124: "we may not store it",
    0x0213: "out of resources",
    0xC122: "it does not support the transfer syntax",
}
_KINDS: Final = {0xA700: "out of resources", 0xA900: "it does not match its SOP class"}
_NOT_UNDERSTOOD: Final = "it cannot be understood"
_COMPLETED, _WITH_WARNING, _FAILS = (
    SubOperationOutcome.COMPLETED,
    SubOperationOutcome.WARNING,
    SubOperationOutcome.FAILED,
)


class StoreResponse:
    """One answer.

    Args:
        status: of HTTP: 200, 202 or 409.
        media_type: of the body.
        content: the body, a Store Instances Response Module; if it is empty, the status counts.
    """

    def __init__(self, status: int, media_type: str, content: bytes) -> None:
        self._status = status
        document = _document_of(media_type, content)
        module = _module_of(document)
        self._is_other = bool(content.strip()) and _MODULE_KEYS.isdisjoint(document)
        self._fates: dict[str, Fate] = {}
        for item in _items(module, _REFERENCED):
            self._fates[_text(item, _INSTANCE_UID)] = _stored(item)
        for item in _items(module, _FAILED):
            self._fates[_text(item, _INSTANCE_UID)] = _failed(item)
        self._others = [_failed(item) for item in _items(module, _OTHERS)]

    def fate_of(self, sop_instance_uid: str) -> Fate:
        """What became of an object."""
        found = self._fates.get(sop_instance_uid)
        if found is not None:
            return found
        if self._others:  # it may be one of those that the server could not name
            return self._others[0]
        if self._status != 200:
            return _FAILS, f"the server does not say that it has it (HTTP {self._status})"
        if self._is_other:
            return _FAILS, "the server does not say that it has it: is it a DICOMweb server?"
        if self._fates:
            return _FAILS, "the server names others that it has, and not this one"
        return _COMPLETED, ""


def _document_of(media_type: str, content: bytes) -> dict[str, Any]:
    """The body as an object of JSON; an empty one if it is none."""
    document: Any = None
    with suppress(ValueError, RecursionError, DatasetError):
        is_xml = media_type.endswith("xml")
        document = document_of_xml(content) if is_xml else json.loads(content)
    if isinstance(document, list) and len(document) == 1:
        document = document[0]
    return document if isinstance(document, dict) else {}


def _module_of(document: dict[str, Any]) -> Tree:
    """The module, as far as it can be read."""
    tree = Tree()
    for tag in (_REFERENCED, _FAILED, _OTHERS):
        name = f"{tag:08X}"
        if name in document:
            with suppress(JSONModelError):
                tree.update(from_json({name: document[name]}, is_object=True))
    return tree


def _items(tree: Tree, tag: int) -> Iterator[Tree]:
    element = tree.get(tag)
    if element is not None and isinstance(element.value, list):
        yield from element.value


def _text(tree: Tree, tag: int) -> str:
    element = tree.get(tag)
    value = element.value if element is not None else ""
    return value.strip(" \0") if isinstance(value, str) else ""


def _number(tree: Tree, tag: int) -> int:
    element = tree.get(tag)
    value = element.value if element is not None else b""
    return int.from_bytes(value[:2], "little") if isinstance(value, bytes) else 0


def _stored(item: Tree) -> Fate:
    return (_WITH_WARNING if _number(item, _WARNING_REASON) else _COMPLETED), ""


def _failed(item: Tree) -> Fate:
    code = _number(item, _FAILURE_REASON)
    if is_store_warning(code):  # the server has it, as one that was there already
        return _WITH_WARNING, ""
    kind = _NOT_UNDERSTOOD if code & 0xF000 == 0xC000 else _KINDS.get(code & 0xFF00, "")
    reason = _REASONS.get(code) or kind
    told = f"the server answered 0x{code:04X}" if code else "the server does not say why"
    return _FAILS, f"{told}, {reason}" if reason else told
