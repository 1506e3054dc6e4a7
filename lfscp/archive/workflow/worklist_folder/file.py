"""Reads one worklist file: its dataset, and the fingerprint by which a change of it is seen.

Rules: a file that is too large is refused before it is read; what changes while it is read is not
taken; text, pipes and other things that are no DICOM file are errors with the reason.
"""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from lfscp.dicom.models.element_tree import Tree
from lfscp.dicom.part10.tree_file import read_tree_of_file
from lfscp.errors import OperationError

MAX_BYTES: Final = 1 << 20
ENDING: Final = ".wl"


class WorklistFileError(OperationError):
    """A worklist file cannot be taken.

    Args:
        fingerprint: of the file as it was; empty when that is not known.
    """

    def __init__(self, reason: str, fingerprint: str = "") -> None:
        super().__init__("read the worklist file", reason)
        self.fingerprint = fingerprint


@dataclass(frozen=True, slots=True)
class ReadFile:
    """A file that was read.

    Args:
        dataset: as the file has it.
        content: its bytes.
        modified_ns: when it was changed, in ns since 1970, as its file system says.
    """

    dataset: Tree
    content: bytes
    fingerprint: str
    modified_ns: int


def is_worklist_name(name: str) -> bool:
    """Whether a file of this name may have an item; hidden ones are other programs' own."""
    return name.lower().endswith(ENDING) and not name.startswith(".")


def fingerprint_of(state: os.stat_result) -> str:
    """What differs after any usual change of a file."""
    return f"{state.st_mtime_ns}:{state.st_size}:{state.st_ino}"


def read_worklist_file(path: Path) -> ReadFile:
    """Read a file that others may be writing.

    Raises:
        FileNotFoundError: it is gone.
        WorklistFileError: it cannot be read, or is no dataset that follows its transfer syntax.
    """
    try:
        before, content, after = _read(path)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise WorklistFileError(error.strerror or str(error)) from None
    fingerprint = fingerprint_of(before)
    if fingerprint_of(after) != fingerprint or len(content) != before.st_size:
        raise WorklistFileError("it changes while it is read", fingerprint)
    try:
        dataset = read_tree_of_file(content)
    except OperationError as error:
        raise WorklistFileError(error.reason, fingerprint) from None
    return ReadFile(dataset, content, fingerprint, before.st_mtime_ns)


def _read(path: Path) -> tuple[os.stat_result, bytes, os.stat_result]:
    """The bytes of a file of the usual size, and its state before and after."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)  # a pipe may wait
    with open(descriptor, "rb", buffering=0) as file:
        before = os.fstat(file.fileno())
        if not stat.S_ISREG(before.st_mode):
            raise WorklistFileError("it is no file")
        if before.st_size > MAX_BYTES:
            size = f"{before.st_size} bytes, more than {MAX_BYTES >> 20} MB"
            raise WorklistFileError(f"it has {size}", fingerprint_of(before))
        content = file.read(MAX_BYTES + 1)
        return before, content, os.fstat(file.fileno())
