"""Puts files and names safely on disk, and says when an object counts as stored."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from enum import StrEnum
from pathlib import Path
from typing import BinaryIO, Final

_LIBC: Final = ctypes.CDLL(None, use_errno=True)
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


def sync_file_system(descriptor: int) -> None:
    """Have all files of a file system on disk, with their names: syncfs of Linux.

    Args:
        descriptor: of a file or folder there.
    Raises:
        OSError: something could not be written since this was opened, or asked last.
    """
    if _LIBC.syncfs(descriptor) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


@contextmanager
def whole_file(path: Path, *, sync: bool = True) -> Iterator[BinaryIO]:
    """A new file to write, which gets its name once it is whole; it replaces an older one.

    Args:
        sync: put its bytes on disk first, so that a power cut leaves no part of it. The name
            itself is on disk once the caller has synced the folder.
    Raises:
        OSError: the file cannot be written.
    """
    part = path.with_name(path.name + PART)
    part.unlink(missing_ok=True)  # left by a run that was interrupted, or a link
    try:
        with part.open("xb") as file:
            yield file
            file.flush()
            if sync:
                os.fsync(file.fileno())
        part.replace(path)
    except BaseException:
        with suppress(OSError):
            part.unlink()
        raise


def write_whole(path: Path, text: str) -> None:
    """Write a small file so that it is there whole or as it was before, also after a power cut."""
    with whole_file(path) as file:
        file.write(text.encode())
    sync_folder(path.parent)
