"""DICOM files as others write them: where the dataset begins, and in which transfer syntax.

`part10.read_part10` reads lfscp's own files strictly. Here a file may lack its preamble, its
prefix, its meta information's group length, or all meta information; a note says what was odd.
Rules: nothing is guessed that the dataset itself does not show. Without a transfer syntax the whole
dataset must be sound in the one that its first element is written in, and none of the compressed
ones. A DICOMDIR is no object, and the error says so.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import Final

from pydicom.uid import UID

from lfscp.dicom.encoding.elements import (
    EXPLICIT_BIG,
    EXPLICIT_LITTLE,
    IMPLICIT_LITTLE,
    NO_VRS,
    UNDEFINED_LENGTH,
    Encoding,
    element_head,
    elements,
)
from lfscp.dicom.encoding.encapsulated import PIXEL_DATA
from lfscp.dicom.encoding.transfer_syntaxes import (
    EXPLICIT_VR_BIG_ENDIAN,
    EXPLICIT_VR_LITTLE_ENDIAN,
    IMPLICIT_VR_LITTLE_ENDIAN,
)
from lfscp.dicom.encoding.value_representations import KNOWN
from lfscp.dicom.errors import DatasetError, named
from lfscp.dicom.part10.file_head import shown
from lfscp.dicom.reading.header import (
    DEFLATED,
    SOP_CLASS_UID,
    SOP_INSTANCE_UID,
    encoding_of,
    is_uid,
)

MEDIA_STORAGE_DIRECTORY: Final = "1.2.840.10008.1.3.10"
_PREFIX: Final = b"DICM"
_PREAMBLE: Final = 128  # bytes
_META: Final = b"\x02\x00"  # the groups that a file or a dataset can begin with
_DIRECTORY: Final = b"\x04\x00"
_IDENTIFYING: Final = b"\x08\x00"
_IDENTIFYING_BIG: Final = b"\x00\x08"
_GROUP_LENGTH: Final = 0x00020000
_MEDIA_SOP_CLASS: Final = 0x00020002
_MEDIA_SOP_INSTANCE: Final = 0x00020003
_TRANSFER_SYNTAX: Final = 0x00020010
_SOURCE_AE_TITLE: Final = 0x00020016
_MAX_AE_TITLE: Final = 16  # characters
_NO_META: Final = "the file meta information is missing"
_NO_SYNTAX: Final = "no transfer syntax is named"
_FIRST: Final = 65_536  # bytes to inflate for the first elements of a deflated dataset


class NotDicomError(DatasetError):
    """A file that is no DICOM object, nor a damaged one."""


class MediaDirectoryError(NotDicomError):
    """A DICOMDIR."""

    def __init__(self) -> None:
        super().__init__("a DICOMDIR: it lists objects and is none itself")


@dataclass(frozen=True, slots=True)
class MediaFile:
    """How a DICOM file is laid out.

    Args:
        sop_class_uid: as the file meta information says, as `sop_instance_uid`; may be empty.
        notes: what is odd about the file, fit for the log.
    """

    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax_uid: str
    source_ae_title: str
    dataset_offset: int
    notes: tuple[str, ...]

    def notes_on(self, sop_class_uid: str, sop_instance_uid: str) -> tuple[str, ...]:
        """The notes, with what the file meta information has otherwise than the dataset."""
        found = list(self.notes)
        for name, meta, dataset in (
            ("SOP Class UID", self.sop_class_uid, sop_class_uid),
            ("SOP Instance UID", self.sop_instance_uid, sop_instance_uid),
        ):
            if meta != dataset and meta:
                found.append(
                    f"the file meta information has {name} {shown(meta)}, "
                    f"the dataset {shown(dataset)}"
                )
            elif meta != dataset and _NO_META not in self.notes:
                found.append(f"the file meta information lacks the {name}")
        return tuple(found)


def could_be_dicom(beginning: bytes) -> bool:
    """Whether a file that begins so may be a DICOM file; 132 bytes are enough."""
    try:
        _begin(memoryview(beginning))
    except NotDicomError:
        return False
    return True


def read_media(content: memoryview) -> MediaFile:
    """Find the dataset of a whole DICOM file.

    Raises:
        MediaDirectoryError: it is a DICOMDIR.
        NotDicomError: it is no DICOM file.
        DatasetError: it is one, and broken.
    Source: PS3.10 section 7.1.
    """
    begin, is_odd = _begin(content)
    notes = [is_odd] if is_odd else []
    meta, offset = _read_meta(content, begin, notes)
    if _is_directory(content, offset, meta):
        raise MediaDirectoryError
    if offset >= len(content):
        raise DatasetError("the dataset is empty")
    syntax = meta.get(_TRANSFER_SYNTAX, "")
    if not is_uid(syntax):
        named, syntax = syntax, _guess(content, offset)
        what = f"the transfer syntax {shown(named)} is no UID" if named else _NO_SYNTAX
        notes.append(f"{what}, it is {UID(syntax).name}")
    elif _is_plainly_other(content, offset, syntax):
        named, syntax = syntax, _guess(content, offset)
        notes.append(f"{UID(named).name} is named, the dataset is in {UID(syntax).name}")
    return MediaFile(
        meta.get(_MEDIA_SOP_CLASS, ""),
        meta.get(_MEDIA_SOP_INSTANCE, ""),
        syntax,
        _ae_title(meta.get(_SOURCE_AE_TITLE, "")),
        offset,
        tuple(notes),
    )


def _is_directory(content: memoryview, offset: int, meta: dict[int, str]) -> bool:
    """Whether it is a DICOMDIR; an object counts as one whatever the meta information says.

    An object may also begin as a DICOMDIR does, and then says what it is.
    """
    begins_so = _starts(content, offset, _DIRECTORY)
    if not begins_so and meta.get(_MEDIA_SOP_CLASS) != MEDIA_STORAGE_DIRECTORY:
        return False
    sop_class, instance = identity_of(content[offset:], meta.get(_TRANSFER_SYNTAX, ""))
    if sop_class in ("", MEDIA_STORAGE_DIRECTORY):
        return True
    return begins_so and not instance


def _ae_title(text: str) -> str:
    """An AE title, which goes to the index and into the stored file; empty when it is none."""
    return text if len(text) <= _MAX_AE_TITLE and text.isascii() and text.isprintable() else ""


def _starts(content: memoryview, at: int, group: bytes) -> bool:
    return bytes(content[at : at + 2]) == group


def _begin(content: memoryview) -> tuple[int, str]:
    """Where file meta information or dataset begins, and what is missing before it."""
    if not content:
        raise NotDicomError("no DICOM file: it is empty")
    if bytes(content[_PREAMBLE : _PREAMBLE + 4]) == _PREFIX:
        return _PREAMBLE + 4, ""
    if bytes(content[:4]) == _PREFIX:
        return 4, "the preamble is missing"
    if _is_beginning(content[:4]):
        return 0, "preamble and prefix DICM are missing"
    if not any(content[:_PREAMBLE]) and _is_beginning(content[_PREAMBLE : _PREAMBLE + 4]):
        return _PREAMBLE, "the prefix DICM is missing"
    if bytes(content[:2]) == b"PK":
        raise NotDicomError("no DICOM file but a ZIP")
    raise NotDicomError("no DICOM file: the prefix DICM is missing")


def _is_beginning(tag: memoryview) -> bool:
    """Whether file meta information, a DICOMDIR or the dataset of an object can begin so."""
    group, element = bytes(tag[:2]), bytes(tag[2:])
    if group in (_META, _DIRECTORY):
        return True
    # An object has a SOP Class and a SOP Instance UID: it begins with these or before them.
    if group == _IDENTIFYING:
        return int.from_bytes(element, "little") <= SOP_CLASS_UID & 0xFFFF
    return group == _IDENTIFYING_BIG and int.from_bytes(element, "big") <= SOP_CLASS_UID & 0xFFFF


def _read_meta(content: memoryview, begin: int, notes: list[str]) -> tuple[dict[int, str], int]:
    """The meta information's values as text, and where it ends: at the first other group."""
    if not _starts(content, begin, _META):
        notes.append(_NO_META)
        return {}, begin
    encoding = (
        EXPLICIT_LITTLE if bytes(content[begin + 4 : begin + 6]).isalpha() else IMPLICIT_LITTLE
    )
    found: dict[int, str] = {}
    stated: int | None = None
    at, end, last = begin, len(content), 0
    while _starts(content, at, _META):
        tag = 2 << 16 | int.from_bytes(content[at + 2 : at + 4], "little")
        is_new = tag > last and tag not in found  # the stated length may have left it out
        if stated is not None and at >= stated and not is_new:
            raise DatasetError(f"it begins with {named(tag)}, which no dataset may have", tag)
        value, until = _meta_element(content, at, end, encoding)
        if tag == _GROUP_LENGTH:
            stated = until + int.from_bytes(content[value:until], "little")
        found[tag] = bytes(content[value:until]).decode("latin_1").strip(" \0")
        at, last = until, tag
        if at == stated and found.get(_TRANSFER_SYNTAX) in DEFLATED:
            break  # what follows is deflated, and may begin with any byte
    if at != stated:
        what = "missing" if stated is None else "wrong"
        notes.append(f"the file meta information's group length is {what}")
    return found, at


def _meta_element(content: memoryview, at: int, end: int, encoding: Encoding) -> tuple[int, int]:
    """Begin and end of the value."""
    if at + 8 <= end:
        _, value, length, _ = element_head(content, at, end, encoding)
        if length != UNDEFINED_LENGTH and value + length <= end:
            return value, value + length
    raise DatasetError("the file meta information is longer than the file", _GROUP_LENGTH)


def _is_plainly_other(content: memoryview, offset: int, syntax: str) -> bool:
    """Whether a dataset of a usual transfer syntax is written in the other one."""
    if not _starts(content, offset, _IDENTIFYING):
        return False
    vr = bytes(content[offset + 4 : offset + 6])
    if syntax == EXPLICIT_VR_LITTLE_ENDIAN:
        return not vr.isalpha() and vr not in NO_VRS
    return syntax == IMPLICIT_VR_LITTLE_ENDIAN and vr in KNOWN


def _guess(content: memoryview, offset: int) -> str:
    """The uncompressed transfer syntax that fits the whole dataset; DatasetError if none does."""
    vr = bytes(content[offset + 4 : offset + 6])
    if _starts(content, offset, _IDENTIFYING):
        syntax, encoding = IMPLICIT_VR_LITTLE_ENDIAN, IMPLICIT_LITTLE
        if vr in KNOWN:
            syntax, encoding = EXPLICIT_VR_LITTLE_ENDIAN, EXPLICIT_LITTLE
    elif _starts(content, offset, _IDENTIFYING_BIG) and vr in KNOWN:
        syntax, encoding = EXPLICIT_VR_BIG_ENDIAN, EXPLICIT_BIG
    else:
        raise NotDicomError("no DICOM file: no transfer syntax is named, and none can be seen")
    last = -1
    for tag, value, until, _ in elements(content, offset, len(content), encoding):
        if tag <= last:
            raise NotDicomError("no DICOM file: no transfer syntax is named, and none fits")
        last = tag
        if tag == PIXEL_DATA and _is_encapsulated(content, value, until, encoding):
            raise DatasetError(
                "the pixel data is compressed, and no transfer syntax is named", _TRANSFER_SYNTAX
            )
    return syntax


def _is_encapsulated(content: memoryview, value: int, until: int, encoding: Encoding) -> bool:
    """Whether pixel data was of undefined length: its delimiter is no part of the value."""
    stated = encoding.unpack_length(content, value - 4)[0]
    return stated == UNDEFINED_LENGTH and until >= value


def identity_of(dataset: memoryview, transfer_syntax_uid: str) -> tuple[str, str]:
    """SOP Class and SOP Instance UID of a dataset; empty where it has none that can be read."""
    beginning: bytes | memoryview = dataset
    if transfer_syntax_uid in DEFLATED:
        try:
            beginning = zlib.decompressobj(-zlib.MAX_WBITS).decompress(dataset[:_FIRST], _FIRST)
        except zlib.error:
            return "", ""
    encoding = encoding_of(transfer_syntax_uid)
    found = {}
    try:
        for tag, value, until, _ in elements(beginning, 0, len(beginning), encoding):
            if tag > SOP_INSTANCE_UID:
                break
            if tag in (SOP_CLASS_UID, SOP_INSTANCE_UID):
                found[tag] = bytes(beginning[value:until]).decode("latin_1").strip(" \0")
    except DatasetError:
        pass  # what stood before counts
    return found.get(SOP_CLASS_UID, ""), found.get(SOP_INSTANCE_UID, "")
