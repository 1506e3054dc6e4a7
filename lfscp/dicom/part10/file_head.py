"""Compares a stored file's head, all before its dataset, with what the index says.

The digest in the index is the dataset's. A file whose file meta information is damaged is refused
by its readers, or read in a wrong transfer syntax, however sound its dataset is.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from lfscp.dicom.encoding.elements import EXPLICIT_LITTLE, elements
from lfscp.dicom.encoding.value_representations import KNOWN
from lfscp.dicom.errors import DatasetError, named
from lfscp.dicom.part10.file_meta import IMPLEMENTATION_CLASS_UID, PREAMBLE_BYTES, read_part10

_GROUP_LENGTH: Final = PREAMBLE_BYTES + 4  # where the meta information begins
HEAD_BYTES: Final = 65_536  # bytes in which the file meta information ends


@dataclass(frozen=True, slots=True)
class Expected:
    """What the head must say."""

    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax_uid: str
    dataset_offset: int

    @classmethod
    def of(cls, row: Any) -> Expected:
        """What a row of `Index.placements` says."""
        return cls(
            row.sop_class_uid, row.sop_instance_uid, row.transfer_syntax_uid, row.dataset_offset
        )


def fault_of_head(head: bytes, expected: Expected) -> str:
    """The fault in the first bytes of a stored file; empty when there is none.

    The preamble means nothing, and a file that came with one keeps it; ours is zeros.
    """
    try:
        meta = read_part10(head)
        _require_readable(head, meta.dataset_offset)
    except DatasetError as error:
        return error.reason
    is_ours = meta.implementation_class_uid == IMPLEMENTATION_CLASS_UID
    if is_ours and any(head[:PREAMBLE_BYTES]):
        return "the preamble is not the one that was written"
    for what, actual, wanted in (
        ("the dataset begins at byte", meta.dataset_offset, expected.dataset_offset),
        ("the transfer syntax is", meta.transfer_syntax_uid, expected.transfer_syntax_uid),
        ("the SOP Class UID is", meta.sop_class_uid, expected.sop_class_uid),
        ("the SOP Instance UID is", meta.sop_instance_uid, expected.sop_instance_uid),
    ):
        if actual != wanted:
            return f"{what} {shown(actual)}, the index says {wanted}"
    return ""


def _require_readable(head: bytes, end: int) -> None:
    """Refuse meta information that other readers cannot follow, though we can.

    They look at each element's group and VR, and at that of the group length; nothing more, since
    files are kept as they came.
    """
    if head[_GROUP_LENGTH + 4 : _GROUP_LENGTH + 8] != b"UL\x04\x00":
        raise DatasetError("the group length is no number of 4 bytes")
    at = _GROUP_LENGTH
    for tag, _, until, _ in elements(head, at, end, EXPLICIT_LITTLE):
        if tag >> 16 != 0x0002:
            raise DatasetError(f"{named(tag)} is among the meta information")
        if head[at + 4 : at + 6] not in KNOWN:
            raise DatasetError(f"{named(tag)} has no VR")
        at = until


def shown(value: object) -> str:
    """What a file says, as a terminal may show it."""
    text = str(value) or "empty"
    return text if text.isprintable() else ascii(text)
