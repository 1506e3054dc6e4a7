"""Keeps the metadata of a STOW-RS request as text, and reads them one object at a time.

Values take many times the memory of their text, so no more than one object of a request is read at
once, and text and values have a limit.
Source: PS3.18 section 10.5.1.4 and annex F; PS3.19 section A.1.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from http import HTTPStatus
from typing import Any, Final

from lfscp.dicom.errors import DatasetError
from lfscp.dicom.models.native_model_reader import document_of_xml
from lfscp.dicomweb.errors import BodyError
from lfscp.web.security.shares import Share

JSON: Final = frozenset({"application/dicom+json", "application/json"})
XML: Final = frozenset({"application/dicom+xml", "application/xml", "text/xml"})
MEDIA_TYPES: Final = JSON | XML
MAX_BYTES: Final = 16 << 20  # of a request: some 2,500 CT images
MAX_BYTES_OF_ALL: Final = 32 << 20
MAX_VALUES: Final = 500_000
_BEFORE_VALUES: Final = (b",", b"[", b"{", b"<")
_WHITE: Final = re.compile(r"\s*")


class Metadata:
    """The metadata of one request.

    Args:
        held: the bytes of all requests, with MAX_BYTES_OF_ALL.
        visitor: who sends them.
    """

    def __init__(self, held: Share, visitor: str) -> None:
        self._held = held
        self._visitor = visitor
        self._size = 0
        self._values = 0
        self._texts: list[tuple[bool, bytes]] = []

    def require_room(self, text: bytes) -> None:
        """Count what has come.

        Raises:
            BodyError: it is too much for this request, or for all of them.
        """
        self._values += sum(map(text.count, _BEFORE_VALUES))
        if self._size + len(text) > MAX_BYTES or self._values > MAX_VALUES:
            reason = f"more metadata than {MAX_BYTES >> 20} MB or {MAX_VALUES} values; split them"
            raise BodyError(reason, HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
        if self._held.take(self._visitor, len(text)):
            reason = "too many requests with metadata at once; try again in a moment"
            raise BodyError(reason, HTTPStatus.SERVICE_UNAVAILABLE)
        self._size += len(text)

    def add(self, media_type: str, text: bytes) -> None:
        """Keep a part that is whole."""
        self._texts.append((media_type in JSON, text))

    def documents(self) -> Iterator[Any]:
        """The metadata of each object as `json_reader` reads them.

        Raises:
            BodyError: they are no JSON or XML.
        """
        for is_json, text in self._texts:
            yield from _of_json(text) if is_json else _of_xml(text)

    def close(self) -> None:
        """Give the memory back."""
        self._texts.clear()
        if self._size:
            self._held.give(self._visitor, self._size)
            self._size = 0


def _of_xml(text: bytes) -> Iterator[Any]:
    try:
        yield document_of_xml(text)
    except DatasetError as error:
        raise BodyError(f"the metadata: {error.reason}") from None


def _of_json(text: bytes) -> Iterator[Any]:
    """The elements of the list, or the one object."""
    decoder = json.JSONDecoder()
    try:
        whole = text.decode("utf-8-sig")
        at = _after_white(whole, 0)
        if whole[at : at + 1] != "[":
            found, at = decoder.raw_decode(whole, at)
            _require(_after_white(whole, at) == len(whole))
            yield found
            return
        at = _after_white(whole, at + 1)
        while whole[at : at + 1] != "]":
            found, at = decoder.raw_decode(whole, at)
            yield found
            at = _after_white(whole, at)
            if whole[at : at + 1] == ",":
                at = _after_white(whole, at + 1)
                _require(whole[at : at + 1] != "]")
            else:
                _require(whole[at : at + 1] == "]")
        _require(_after_white(whole, at + 1) == len(whole))
    except (ValueError, RecursionError):
        raise BodyError("the metadata are not JSON, or nested too deep") from None


def _after_white(text: str, at: int) -> int:
    found = _WHITE.match(text, at)
    return found.end() if found else at


def _require(is_right: bool) -> None:
    if not is_right:
        raise ValueError
