"""Answers requests for the bulk data that metadata refer to (PS3.18 section 10.4.1.1.5).

Its URL is that of the instance, `bulkdata`, and the path of the element: `bulkdata/00420011`, or
with the number of each item, counted from 1, `bulkdata/54000100/1/54001010`. Values are in little
endian. `Range` is for one part only; ranges of several are ignored, which HTTP allows.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from http import HTTPStatus
from typing import IO, Final

from starlette.responses import Response

from lfscp.archive.store.partial_dataset import (
    PartialDataset,
    TooManyPartsError,
    parts_of_large,
)
from lfscp.archive.store.stored_dataset import StoredDataset, dataset_of
from lfscp.dicom.encoding.encapsulated import PIXEL_DATA
from lfscp.dicom.reading.header import DEFLATED
from lfscp.dicom.reading.value_places import ValuePlace, find_value
from lfscp.dicomweb.media_types import OCTETS
from lfscp.dicomweb.multipart_writer import MultipartWriter, Part
from lfscp.web.dicomweb.accept import Wanted, not_acceptable, wanted_forms
from lfscp.web.dicomweb.answering import Asked, Streamed, refusing
from lfscp.web.dicomweb.pieces import GATHERED, kept
from lfscp.web.dicomweb.retrieving.documents import document_type
from lfscp.web.dicomweb.retrieving.frames import pixel_data
from lfscp.web.dicomweb.targets import Instance, instance_of
from lfscp.web.problems import Problem

ENCAPSULATED_DOCUMENT: Final = 0x00420011
ENCAPSULATED_DOCUMENT_LENGTH: Final = 0x00420015
_LENGTH_BYTES: Final = 4
_FETCHED: Final = 1 << 22  # bytes of an object in a bucket at a time
MAX_DEPTH: Final = 50  # of sequences in sequences
_TAG: Final = re.compile(r"[0-9A-Fa-f]{8}")
_ITEM: Final = re.compile(r"[1-9][0-9]{0,8}")
_RANGE: Final = re.compile(r"bytes=\s*(\d{0,18})-(\d{0,18})\s*")


def path_of(text: str) -> list[int]:
    """The path of an element from a URL.

    Raises:
        Problem: it is none.
    """
    parts = text.split("/")
    tags, items = parts[::2], parts[1::2]
    fits = len(parts) % 2 == 1 and len(items) <= MAX_DEPTH
    if not fits or not all(map(_TAG.fullmatch, tags)) or not all(map(_ITEM.fullmatch, items)):
        detail = "bulk data is named by a tag such as 00420011, or 54000100/1/54001010"
        raise Problem(HTTPStatus.BAD_REQUEST, detail)
    return [int(part, 10 if at % 2 else 16) for at, part in enumerate(parts)]


class BulkValue:
    """One value of an object, read in pieces.

    Args:
        file: open for as long as this is used; or parts of an object in a bucket.
    """

    def __init__(
        self, file: IO[bytes] | PartialDataset, dataset: StoredDataset, place: ValuePlace
    ) -> None:
        self.size = place.end - place.begin
        self._file = file
        self._step = _FETCHED if isinstance(file, PartialDataset) else GATHERED
        self._dataset = dataset
        self._place = place
        self._is_deflated = dataset.transfer_syntax_uid in DEFLATED

    def pieces(self, begin: int, end: int) -> Iterator[bytes]:
        """Some of its bytes, in little endian."""
        for at in range(begin, end, self._step):
            yield self._words(at, min(at + self._step, end))

    def _words(self, begin: int, end: int) -> bytes:
        width = self._place.word_bytes
        start, stop = begin // width * width, min(-(-end // width) * width, self.size)
        content = self._read(self._place.begin + start, self._place.begin + stop)
        if width > 1 and len(content) % width == 0:
            turned = bytearray(len(content))
            for at in range(width):
                turned[at::width] = content[width - 1 - at :: width]
            content = bytes(turned)
        return content[begin - start : end - start]

    def _read(self, begin: int, end: int) -> bytes:
        if self._is_deflated:
            return bytes(self._dataset.content[begin:end])
        if isinstance(self._file, PartialDataset):
            return self._file.read(begin, end)
        return os.pread(self._file.fileno(), end - begin, self._dataset.offset + begin)


def bulk_data(asked: Asked) -> Response:
    """One value of an instance."""
    path = path_of(asked.path["element"])
    if path == [PIXEL_DATA]:
        return pixel_data(asked)
    wanted = wanted_forms(asked.request)
    instance = instance_of(asked)
    if path == [ENCAPSULATED_DOCUMENT]:
        return document(asked, instance, wanted, also=(OCTETS,))
    return _answer(asked, instance, path, _form(wanted, (OCTETS,)))


def document(
    asked: Asked, instance: Instance, wanted: Sequence[Wanted], also: Sequence[str] = ()
) -> Response:
    """The encapsulated document of an instance, without the byte that pads it.

    Args:
        also: media types in which it is given too.
    """
    own = document_type(instance.sop_class_uid)
    types = tuple(filter(None, (own, *also)))
    return _answer(asked, instance, [ENCAPSULATED_DOCUMENT], _form(wanted, types))


def _answer(
    asked: Asked, instance: Instance, path: Sequence[int], chosen: tuple[str, bool]
) -> Response:
    media_type, is_multipart = chosen
    with refusing("the object cannot be read"), ExitStack() as opened:
        is_part = "range" in asked.request.headers
        parts = _in_parts(instance) if is_part else None
        value = _value(instance, path, parts or opened.enter_context(instance.open()))
        form = f"{path}|{media_type}|{is_multipart}"
        headers = asked.require_changed(f"{instance.version}|{form}")
        if not is_multipart:
            return _single(asked, value, media_type, headers, opened)
        writer = MultipartWriter(media_type)
        pieces = writer.pieces([Part(media_type, value.pieces(0, value.size))])
        sent = kept(pieces, opened.pop_all())
        return Streamed(asked, sent, writer.content_type, headers, what="bulk data")


def _in_parts(instance: Instance) -> PartialDataset | None:
    """A large object in a bucket, without its large values; else None."""
    place = (instance.transfer_syntax_uid, instance.dataset_offset)
    parts = parts_of_large(instance.file, *place)
    if parts is not None:
        try:
            parts.read_head()
        except TooManyPartsError:
            return None
    return parts


def _value(instance: Instance, path: Sequence[int], file: IO[bytes] | PartialDataset) -> BulkValue:
    if isinstance(file, PartialDataset):
        dataset = file.dataset
    else:
        dataset = dataset_of(file, instance.transfer_syntax_uid, instance.dataset_offset)
    place = find_value(dataset.content, dataset.encoding, path)
    if place is None or place.has_items:
        raise Problem(HTTPStatus.NOT_FOUND, "the object has no such bulk data")
    if path == [ENCAPSULATED_DOCUMENT]:
        place = place._replace(end=min(place.end, place.begin + _document_bytes(dataset, place)))
    return BulkValue(file, dataset, place)


def _document_bytes(dataset: StoredDataset, document: ValuePlace) -> int:
    """The length that the object names for its document, or else that of the value."""
    whole = document.end - document.begin
    found = find_value(dataset.content, dataset.encoding, [ENCAPSULATED_DOCUMENT_LENGTH])
    if found is None or found.end - found.begin != _LENGTH_BYTES:
        return whole
    content = bytes(dataset.content[found.begin : found.end])
    return int.from_bytes(content, dataset.encoding.byteorder) or whole


def _form(wanted: Sequence[Wanted], types: Sequence[str]) -> tuple[str, bool]:
    """Media type, and whether the answer is multipart."""
    for each in wanted:
        for media_type in types:
            if each.takes(media_type):
                return media_type, each.is_multipart is True
    raise not_acceptable(types)


def _single(
    asked: Asked, value: BulkValue, media_type: str, headers: dict[str, str], opened: ExitStack
) -> Response:
    """One part, or the range of it that was asked for (RFC 9110 section 14.2)."""
    headers["Accept-Ranges"] = "bytes"
    begin, end, status = 0, value.size, HTTPStatus.OK
    wanted = _range(asked, value.size, headers["ETag"])
    if wanted is not None:
        begin, end = wanted
        status = HTTPStatus.PARTIAL_CONTENT
        headers["Content-Range"] = f"bytes {begin}-{end - 1}/{value.size}"
    sent = kept(value.pieces(begin, end), opened.pop_all())
    return Streamed(
        asked, sent, media_type, headers, what="bulk data", size=end - begin, status_code=status
    )


def _range(asked: Asked, size: int, tag: str) -> tuple[int, int] | None:
    """The only range that is asked for; None if all is to be sent.

    Raises:
        Problem: it is behind the end (416).
    """
    headers = asked.request.headers
    found = _RANGE.fullmatch(headers.get("range", ""))
    if found is None or found[1] == found[2] == "" or headers.get("if-range", tag) != tag:
        return None
    if not found[1]:
        begin, end = max(0, size - int(found[2])), size
    else:
        begin, end = int(found[1]), min(int(found[2] or size) + 1, size)
        if found[2] and int(found[2]) < begin:
            return None
    if begin >= end:
        detail = f"the range is behind the end, at {size} bytes"
        there = {"Content-Range": f"bytes */{size}"}
        raise Problem(HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE, detail, headers=there)
    return begin, end
