"""Whether a stored file's head still says what the index says: all before the dataset's bytes.

The digest in the index is the dataset's. A file whose file meta information is damaged is refused
by its readers, or read in a wrong transfer syntax, however sound its dataset is.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from lfscp.archive.errors import CannotUnderstand
from lfscp.archive.part10 import IMPLEMENTATION_CLASS_UID, PREAMBLE_BYTES, read_part10

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
    """What is wrong with the first bytes of a stored file; empty when nothing is.

    The preamble means nothing, and a file that came with one keeps it; ours is zeros.
    """
    try:
        meta = read_part10(head)
    except CannotUnderstand as error:
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
            return f"{what} {_shown(actual)}, the index says {wanted}"
    return ""


def _shown(value: object) -> str:
    text = str(value) or "empty"
    return text if text.isprintable() else ascii(text)
