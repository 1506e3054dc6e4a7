"""The head of a DICOM file: preamble and file meta information, written and read (PS3.10).

Pure: no files, no clock. The meta information is always explicit VR little endian.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from lfscp import __version__
from lfscp.dicom.encoding.elements import EXPLICIT_LITTLE, Buffer, elements
from lfscp.dicom.errors import DatasetError

# A UUID-derived UID (PS3.5 annex B.2), made once for this implementation.
IMPLEMENTATION_CLASS_UID: Final = "2.25.213419246733265826325474842137426187373"
IMPLEMENTATION_VERSION_NAME: Final = f"LFSCP_{__version__}"[:16]

PREAMBLE_BYTES: Final = 128
_PREAMBLE: Final = b"\0" * PREAMBLE_BYTES + b"DICM"
_GROUP_LENGTH_END: Final = len(_PREAMBLE) + 12


@dataclass(frozen=True, slots=True)
class FileMeta:
    """What the file meta information says, and where the dataset begins.

    Args:
        dataset_offset: bytes from the file's start to the dataset.
    """

    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax_uid: str
    source_ae_title: str
    dataset_offset: int
    implementation_class_uid: str = ""


def part10_header(
    sop_class_uid: str, sop_instance_uid: str, transfer_syntax_uid: str, source_ae_title: str = ""
) -> bytes:
    """Encode preamble, prefix and file meta information.

    Args:
        sop_class_uid: Media Storage SOP Class UID.
        sop_instance_uid: Media Storage SOP Instance UID.
        transfer_syntax_uid: of the dataset that follows.
        source_ae_title: who sent the object; left out when empty.
    Source: PS3.10 section 7.1.
    """
    instance = _element(0x0003, b"UI", sop_instance_uid)
    before, after = _around_the_instance(sop_class_uid, transfer_syntax_uid, source_ae_title)
    length = len(before) + len(instance) + len(after)
    group_length = struct.pack("<HH2sHL", 0x0002, 0x0000, b"UL", 4, length)
    return b"".join((_PREAMBLE, group_length, before, instance, after))


@lru_cache(maxsize=256)
def _around_the_instance(
    sop_class_uid: str, transfer_syntax_uid: str, source_ae_title: str
) -> tuple[bytes, bytes]:
    """All elements but the instance's UID: the same for each object of an association."""
    version = struct.pack("<HH2sHL", 0x0002, 0x0001, b"OB", 0, 2) + b"\0\1"
    source = _element(0x0016, b"AE", source_ae_title) if source_ae_title else b""
    return (
        version + _element(0x0002, b"UI", sop_class_uid),
        _element(0x0010, b"UI", transfer_syntax_uid)
        + _element(0x0012, b"UI", IMPLEMENTATION_CLASS_UID)
        + _element(0x0013, b"SH", IMPLEMENTATION_VERSION_NAME)
        + source,
    )


def _element(number: int, vr: bytes, text: str) -> bytes:
    value = text.encode("latin_1", "replace")
    if len(value) % 2:
        value += b"\0" if vr == b"UI" else b" "
    return struct.pack("<HH2sH", 0x0002, number, vr, len(value)) + value


def read_part10(buffer: Buffer) -> FileMeta:
    """Read the head of a DICOM file.

    Args:
        buffer: the file, or its first bytes (4096 are plenty).
    Raises:
        DatasetError: it is no DICOM file, or the meta information is broken.
    """
    if bytes(buffer[128:132]) != b"DICM" or len(buffer) < _GROUP_LENGTH_END:
        raise DatasetError("no DICOM file: the prefix DICM is missing")
    group, element, _, _, length = struct.unpack_from("<HH2sHL", buffer, len(_PREAMBLE))
    if (group, element) != (0x0002, 0x0000):
        raise DatasetError("the file meta information lacks its group length", 0x00020000)
    end = _GROUP_LENGTH_END + length
    if end > len(buffer):
        raise DatasetError("the file meta information is longer than the file", 0x00020000)
    texts = {
        tag: bytes(buffer[at:until]).decode("latin_1").strip(" \0")
        for tag, at, until, _ in elements(buffer, _GROUP_LENGTH_END, end, EXPLICIT_LITTLE)
    }
    transfer_syntax_uid = texts.get(0x00020010, "")
    if not transfer_syntax_uid:
        raise DatasetError("the file meta information lacks the transfer syntax", 0x00020010)
    return FileMeta(
        texts.get(0x00020002, ""),
        texts.get(0x00020003, ""),
        transfer_syntax_uid,
        texts.get(0x00020016, ""),
        end,
        texts.get(0x00020012, ""),
    )
