"""Reads and checks the heads of DICOM files on disk: all before the dataset."""

from __future__ import annotations

from typing import IO, TYPE_CHECKING

from lfscp.dicom.part10.file_head import HEAD_BYTES, Expected, fault_of_head
from lfscp.dicom.part10.file_meta import FileMeta, read_part10

if TYPE_CHECKING:
    from lfscp.archive.store.object_store import StoredFile


def read_head(file: IO[bytes]) -> FileMeta:
    """Read the head of an open file; raises as `part10.read_part10`, and OSError."""
    return read_part10(file.read(HEAD_BYTES))


def fault_in_file(path: StoredFile, expected: Expected) -> str:
    """What is wrong with a file's head, as `file_head.fault_of_head`; raises OSError."""
    with path.open("rb") as file:
        return fault_of_head(file.read(HEAD_BYTES), expected)
