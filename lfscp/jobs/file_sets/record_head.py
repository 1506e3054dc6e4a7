"""Reads the elements of an object that a directory record needs, in little memory.

Rules: large elements are skipped; an encapsulated document is named without its bytes, since it
says what kind of record it is. Of a report only the items that modify its title are read. Reading
ends at the pixels, or after a megabyte of small elements. A deflated dataset is inflated no
further.
Source: PS3.3 section F.5.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from io import BytesIO
from typing import TYPE_CHECKING, Final

from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import UID, ExplicitVRLittleEndian

from lfscp.archive.store.missing_vrs import with_vrs
from lfscp.archive.store.received_objects import mapped
from lfscp.dicom.encoding.elements import (
    UNDEFINED_LENGTH,
    Buffer,
    Encoding,
    each_item,
    element_head,
    elements,
    skip_undefined,
)
from lfscp.dicom.errors import DatasetError
from lfscp.dicom.part10.file_meta import part10_header, read_part10
from lfscp.dicom.reading.header import DEFLATED, encoding_of

if TYPE_CHECKING:
    from lfscp.archive.store.received_objects import StoredInstance

_META: Final = 65_536  # bytes in which the file meta information ends
_LARGE: Final = 1 << 16  # bytes of an element that is skipped
_MAX: Final = 1 << 20  # bytes of all elements that are read
_INFLATED: Final = 8 << 20  # bytes of a deflated dataset that are inflated
_PIXELS: Final = 0x7FE00000
_DOCUMENT: Final = 0x00420011
_CONTENT: Final = 0x0040A730
_RELATIONSHIP: Final = 0x0040A010
_OF_TITLE: Final = b"HAS CONCEPT MOD"


def read_record_head(instance: StoredInstance) -> Dataset:
    """The small elements of an object before its pixels.

    Raises:
        DatasetError: it is no DICOM file, or cannot be inflated.
        OSError: it cannot be read.
        Exception: pydicom's, on odd elements.
    """
    with instance.path.open("rb") as file:
        meta = read_part10(file.read(_META))
        syntax = meta.transfer_syntax_uid
        with mapped(file.fileno(), meta.dataset_offset) as content:
            deflated = syntax in DEFLATED
            dataset = _beginning(content) if deflated else content
            encoding = encoding_of(syntax)
            small = with_vrs(b"".join(_small(dataset, encoding)), encoding)
    plain = str(ExplicitVRLittleEndian) if deflated else syntax
    begin = part10_header(instance.sop_class_uid, instance.sop_instance_uid, plain)
    head = dcmread(BytesIO(begin + small))
    head.file_meta.TransferSyntaxUID = UID(syntax)
    return head


def _beginning(deflated: memoryview) -> bytes:
    try:
        return zlib.decompressobj(-zlib.MAX_WBITS).decompress(deflated, _INFLATED)
    except zlib.error:
        raise DatasetError("the deflated dataset cannot be inflated") from None


def _small(dataset: Buffer, encoding: Encoding) -> Iterator[bytes]:
    """The small elements of a dataset, up to the first broken one."""
    at, end, left = 0, len(dataset), _MAX
    while at + 8 <= end:
        try:
            raw, value, length, inner = element_head(dataset, at, end, encoding)
            after = value + length
            if length == UNDEFINED_LENGTH:
                after = skip_undefined(dataset, value, end, inner or encoding)
        except DatasetError:
            return
        tag, size = encoding.raw_tag(raw), after - at
        if tag >= _PIXELS or after > end:
            return
        small = dataset[at:after] if size <= _LARGE else b""
        if tag == _CONTENT and inner is not None:
            stop = after if length != UNDEFINED_LENGTH else after - 8
            small = _of_title(dataset[at:value], dataset[value:stop], inner)
        elif tag == _DOCUMENT and value - at == (12 if encoding.explicit else 8):
            small = _without_value(dataset[at:value], encoding)
        left -= len(small)
        if left < 0:
            return
        yield bytes(small)
        at = after


def _without_value(head: Buffer, encoding: Encoding, length: int = 0) -> bytes:
    """The head of an element with another length, which has 32 bits."""
    return bytes(head[:-4]) + length.to_bytes(4, encoding.byteorder)


def _of_title(head: Buffer, content: Buffer, encoding: Encoding) -> bytes:
    """The content items of a report that modify its title, as a sequence; nothing without any."""
    item = struct.Struct("<HHL" if encoding.byteorder == "little" else ">HHL")
    found = b""
    try:
        for begin, end in each_item(content, encoding):
            if _modifies_title(content, begin, end, encoding):
                if len(found) + end - begin > _LARGE:
                    return b""
                found += item.pack(0xFFFE, 0xE000, end - begin) + bytes(content[begin:end])
    except DatasetError:
        return b""
    return _without_value(head, encoding, len(found)) + found if found else b""


def _modifies_title(content: Buffer, begin: int, end: int, encoding: Encoding) -> bool:
    for tag, value, stop, _ in elements(content, begin, end, encoding):
        if tag >= _RELATIONSHIP:
            return tag == _RELATIONSHIP and bytes(content[value:stop]).strip() == _OF_TITLE
    return False
