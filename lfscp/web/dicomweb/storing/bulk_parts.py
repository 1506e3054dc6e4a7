"""Keeps the bulk data of a STOW-RS request in one file, and finds them by their URIs.

Rules: a part belongs to the BulkDataURI that is its Content-Location; no URI is ever fetched.
Several parts with the same one are its frames, in their order or as `/frames/N` says. Compressed
pixel data have the transfer syntax that their Content-Type names or means.
Source: PS3.18 sections 8.7.3.3, 10.4.3.3.5 and 10.5.1.4.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from lfscp.archive.archive import Archive
from lfscp.dicom.encoding.encapsulated import PIXEL_DATA
from lfscp.dicom.encoding.transfer_syntaxes import EXPLICIT_VR_LITTLE_ENDIAN
from lfscp.dicom.errors import DatasetError
from lfscp.dicom.models.bulk_data import BulkData, BulkDataURI
from lfscp.dicomweb.content_type import ContentType
from lfscp.dicomweb.media_types import media_type_of, today
from lfscp.web.dicomweb.storing.spool import Spool

_READ: Final = 1 << 20  # bytes at a time
_FRAME: Final = re.compile(r"(.*)/frames/(\d{1,8})")
# What a media type means without a parameter (PS3.18 tables 8.7.3-6 and -7).
_SYNTAX_OF: Final = {
    media_type: f"1.2.840.10008.1.2.{tail}"
    for media_type, tail in {
        "image/jpeg": "4.70",
        "image/jls": "4.80",
        "image/jp2": "4.90",
        "image/jpx": "4.92",
        "image/jphc": "4.201",
        "image/jxl": "4.110",
        "image/dicom-rle": "5",
        "video/mpeg": "4.100",
        "video/mp4": "4.102",
        "video/H265": "4.107",
    }.items()
}


@dataclass(frozen=True, slots=True)
class _Part:
    """One part.

    Args:
        frame: its number, where its location says it.
        begin: in the file.
    """

    frame: int
    begin: int
    size: int
    content_type: ContentType


class BulkParts:
    """The bulk data of one request."""

    def __init__(self, archive: Archive) -> None:
        self.spool = Spool(archive)
        self._parts: dict[bytes, list[_Part]] = {}

    def add(self, location: str, content_type: ContentType, begin: int) -> None:
        """Note a part that is whole: the bytes of the file from `begin` on."""
        frame = 0
        if named := _FRAME.fullmatch(location):
            location, frame = named[1], int(named[2])
        part = _Part(frame, begin, self.spool.size - begin, content_type)
        self._parts.setdefault(location.encode("latin_1"), []).append(part)

    def find(self, tag: int, uri: BulkDataURI) -> BulkData:
        """The bulk data of an element.

        Raises:
            DatasetError: no part has this location.
        """
        parts = self._of(tag, uri)
        places = [(part.begin, part.size) for part in parts]
        return BulkData(places, tag == PIXEL_DATA and self.syntax(uri) != EXPLICIT_VR_LITTLE_ENDIAN)

    def syntax(self, uri: BulkDataURI) -> str:
        """The transfer syntax of pixel data.

        Raises:
            DatasetError: its parts have different ones, or one that does not fit its media type.
        """
        found = {_syntax_of(part.content_type) for part in self._of(PIXEL_DATA, uri)}
        if len(found) > 1:
            raise DatasetError("the frames have different transfer syntaxes", PIXEL_DATA)
        return found.pop()

    def frames(self, uri: BulkDataURI) -> int:
        """How many parts pixel data have; 0 for a video, which is one stream."""
        parts = self._of(PIXEL_DATA, uri)
        is_video = parts[0].content_type.media_type.startswith("video/")
        return 0 if is_video else len(parts)

    @contextmanager
    def reading(self) -> Iterator[int]:
        """A descriptor of the file, for `pieces`; -1 if there are no parts."""
        if not self._parts:
            yield -1
            return
        descriptor = os.open(self.spool.path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            yield descriptor
        finally:
            os.close(descriptor)

    def _of(self, tag: int, uri: BulkDataURI) -> list[_Part]:
        parts = self._parts.get(uri)
        if not parts:
            raise DatasetError("no part has its BulkDataURI as Content-Location", tag)
        return sorted(parts, key=lambda part: part.frame)


def pieces(descriptor: int, begin: int, size: int) -> Iterator[bytes]:
    """Bytes of the file, some at a time.

    Raises:
        OSError: they cannot be read.
    """
    end = begin + size
    while begin < end:
        piece = os.pread(descriptor, min(_READ, end - begin), begin)
        if not piece:
            raise OSError(0, "the bulk data cannot be read")
        yield piece
        begin += len(piece)


def _syntax_of(content_type: ContentType) -> str:
    named = content_type.parameters.get("transfer-syntax", "")
    kind = today(content_type.media_type)
    if kind not in _SYNTAX_OF:
        if named in ("", EXPLICIT_VR_LITTLE_ENDIAN):
            return EXPLICIT_VR_LITTLE_ENDIAN
        kind = media_type_of(named)  # octets of a transfer syntax that has no type of its own
        if kind not in _SYNTAX_OF:
            raise DatasetError("pixel data in this transfer syntax are not taken", PIXEL_DATA)
        return named
    if named and media_type_of(named) != kind:
        raise DatasetError("pixel data whose transfer syntax does not fit their type", PIXEL_DATA)
    return named or _SYNTAX_OF[kind]
