"""When something counts as stored, and how files and names are put on disk."""

from __future__ import annotations

import os
from enum import StrEnum
from pathlib import Path


class Durability(StrEnum):
    """When an object counts as stored."""

    FULL = "full"  # synced to disk: survives a power cut
    OS = "os"  # handed to the operating system: survives the end of the process


def sync_file(path: Path) -> None:
    """Have a file's bytes on disk."""
    with path.open("rb") as file:
        os.fsync(file.fileno())


def sync_folder(path: Path) -> None:
    """Have the names in a folder on disk."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
