"""The error of DICOM data that is wrong, and how messages name an element."""

from __future__ import annotations

from lfscp.errors import OperationError


def named(tag: int) -> str:
    """A tag as messages show it: (gggg,eeee)."""
    return f"({tag >> 16:04X},{tag & 0xFFFF:04X})"


class DatasetError(OperationError):
    """The dataset's encoding is broken or it lacks its UIDs (C-STORE 0xC000).

    Args:
        reason: what is wrong with the dataset.
        tag: the offending element as an integer (0x0020000D), None when it is none in particular.
    """

    def __init__(self, reason: str, tag: int | None = None) -> None:
        super().__init__("read the dataset", reason)
        self.tag = tag
