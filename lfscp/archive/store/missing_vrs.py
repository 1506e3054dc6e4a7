"""Opens files whose explicit dataset leaves out VRs, so that pydicom can read them.

Where two blanks stand for the VR (`elements.NO_VRS`), pydicom takes them and the length for the
32-bit length of an implicit element, and swallows what follows. In its place the attribute's own VR
is put, as long as it has a 16-bit length: nothing moves. The file itself stays as it is.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from io import BytesIO
from typing import TYPE_CHECKING, BinaryIO, Final, cast

from pydicom.datadict import dictionary_VR

from lfscp.archive.store.received_objects import mapped
from lfscp.archive.store.stored_head import read_head
from lfscp.dicom.encoding.elements import (
    NO_VRS,
    SEQUENCE_DELIMITER,
    SHORT_VRS,
    UNDEFINED_LENGTH,
    Encoding,
    element_head,
    skip_undefined,
)
from lfscp.dicom.encoding.encapsulated import PIXEL_DATA
from lfscp.dicom.encoding.transfer_syntaxes import IMPLICIT_VR_LITTLE_ENDIAN
from lfscp.dicom.errors import DatasetError
from lfscp.dicom.part10.file_meta import FileMeta
from lfscp.dicom.reading.header import DEFLATED, encoding_of

if TYPE_CHECKING:
    from lfscp.archive.store.object_store import StoredFile

_ITEMS: Final = 0xFFFE  # the group of items and delimiters
_SHORT_HEAD: Final = 8  # bytes
_ANY: Final = "LO"


def open_with_vrs(path: StoredFile) -> tuple[FileMeta, BinaryIO]:
    """Open a DICOM file for pydicom: the file, or a copy in memory where VRs were missing.

    What stands behind compressed pixels stays as it is.

    Returns:
        What its head says, and the file at its dataset.
    Raises:
        DatasetError: it is no DICOM file.
        OSError: it cannot be read.
    """
    file = cast(BinaryIO, path.open("rb"))
    try:
        meta = read_head(file)
        file.seek(meta.dataset_offset)
        syntax = meta.transfer_syntax_uid
        if syntax == IMPLICIT_VR_LITTLE_ENDIAN or syntax in DEFLATED:
            return meta, file
        with mapped(file.fileno()) as content:
            places = list(missing_vrs(content, meta.dataset_offset, encoding_of(syntax)))
    except BaseException:
        file.close()
        raise
    if not places:
        return meta, file
    with file:
        file.seek(0)
        repaired = BytesIO(_repaired(file.read(), places))
    repaired.seek(meta.dataset_offset)
    return meta, repaired


def with_vrs(dataset: bytes, encoding: Encoding) -> bytes:
    """A dataset, or a copy of it with VRs where they were missing."""
    if not encoding.explicit:
        return dataset
    places = list(missing_vrs(memoryview(dataset), 0, encoding))
    return bytes(_repaired(dataset, places)) if places else dataset


def _repaired(content: bytes, places: Iterable[tuple[int, int]]) -> bytearray:
    repaired = bytearray(content)
    for place, tag in places:
        repaired[place : place + 2] = _vr_of(tag)
    return repaired


def missing_vrs(content: memoryview, at: int, encoding: Encoding) -> Iterator[tuple[int, int]]:
    """Where a VR is missing, and of which tag; as far as the dataset is sound.

    Sequences are walked into where they begin, so that each byte is passed once, however deep. The
    object's own compressed pixels end the walk: readers of headers end there too, and their
    fragments lie all over a large file.
    """
    end = len(content)
    sequence_end, delimited = at, 0  # of the sequences around: the furthest end, those without one
    try:
        while at + 8 <= end:
            raw, vr, length = encoding.unpack(content, at)
            if vr in encoding.short_vrs and raw >> encoding.group_shift & 0xFFFF != _ITEMS:
                at += _SHORT_HEAD + length
                continue
            tag = encoding.raw_tag(raw)
            if tag >> 16 == _ITEMS:
                delimited -= tag == SEQUENCE_DELIMITER
                at += 8
                continue
            _, value, length, inner = element_head(content, at, end, encoding)
            if inner is encoding and length == UNDEFINED_LENGTH:
                delimited += 1
                at = value
            elif inner is encoding:
                sequence_end = max(sequence_end, value + length)
                at = value
            elif length == UNDEFINED_LENGTH:  # fragments, or items in implicit VR
                if tag == PIXEL_DATA and not delimited and at >= sequence_end:
                    return
                at = skip_undefined(content, value, end, inner or encoding)
            else:
                if value - at == _SHORT_HEAD and bytes(content[at + 4 : at + 6]) in NO_VRS:
                    yield at + 4, tag
                at = value + length
    except DatasetError:
        return  # pydicom reports the fault


def _vr_of(tag: int) -> bytes:
    try:
        vr = dictionary_VR(tag).partition(" or ")[0]
    except KeyError:
        vr = _ANY
    return vr.encode() if vr.encode() in SHORT_VRS else _ANY.encode()
