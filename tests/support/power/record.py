"""The record of a disk: each write and each flush, in their order."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Final

DISK: Final = "disk"  # the file that stands for it
WRITE: Final = 0
FLUSH: Final = 1
ENTRY: Final = struct.Struct("<BQII")  # which, offset, length, length of what was said


@dataclass(frozen=True)
class Entry:
    """A request that the disk got; `at` is where its bytes are in the record."""

    which: int
    offset: int
    length: int
    said: int
    at: int


def read_record(record: Path) -> list[Entry]:
    """The entries of a record."""
    entries = []
    with record.open("rb") as file:
        while head := file.read(ENTRY.size):
            which, offset, length, said = ENTRY.unpack(head)
            entries.append(Entry(which, offset, length, said, file.tell()))
            file.seek(length, 1)
    return entries
