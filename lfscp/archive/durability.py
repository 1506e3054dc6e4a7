"""Puts files and names safely on disk, and says when an object counts as stored."""

from __future__ import annotations

import os
from enum import StrEnum
from pathlib import Path
from typing import Final

PART: Final = ".part"  # ends the name of a file that is not whole


class Durability(StrEnum):
    """When an object counts as stored."""

    FULL = "full"  # synced to disk: survives a power cut
    OS = "os"  # handed to the operating system: survives the end of the process


def sync_file(path: Path) -> None:
    """Have a file's bytes on disk."""
    with path.open("rb") as file:
        os.fsync(file.fileno())


def sync_folder(path: Path | str) -> None:
    """Have the names in a folder on disk."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_whole(path: Path, text: str) -> None:
    """Write a small file so that it is there whole or as it was before, also after a power cut."""
    part = path.with_name(path.name + PART)
    with part.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)
    sync_folder(path.parent)
