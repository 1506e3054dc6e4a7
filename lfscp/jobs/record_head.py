"""Reads the elements of an object that a directory record needs, in little memory.

Rules: large elements are skipped. Reading ends at the pixels, or after a megabyte of small
elements. A deflated dataset is inflated no further.
"""

from __future__ import annotations

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
    element_head,
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
        size = after - at
        if encoding.raw_tag(raw) >= _PIXELS or after > end:
            return
        if size <= _LARGE:
            left -= size
            if left < 0:
                return
            yield bytes(dataset[at:after])
        at = after
