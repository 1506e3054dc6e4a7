"""Folders that the page may look into: those below `web.roots`, and nothing else.

Rules: a path is made real (links followed) before it is compared with the roots, so neither ".."
nor a symbolic link leads out. What lies outside is answered like what does not exist.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

MAX_ENTRIES: Final = 5000


class OutsideRootsError(Exception):
    """The path is below none of the roots, or does not exist; the text is fit for the caller."""


@dataclass(frozen=True, slots=True)
class FolderEntry:
    """A file or folder; `size` in bytes, 0 for folders."""

    name: str
    path: str
    is_folder: bool
    size: int


@dataclass(frozen=True, slots=True)
class Listing:
    """What is in a folder, folders first.

    Args:
        path: the real path; "" for the list of the roots.
        parent: where "up" leads; None at the list of the roots.
        is_complete: False when only the first MAX_ENTRIES are there.
    """

    path: str
    parent: str | None
    entries: list[FolderEntry]
    is_complete: bool = True


def resolve(roots: Sequence[Path], text: str) -> Path:
    """Make a path real and check that it is below a root.

    Args:
        roots: the setting `web.roots`.
        text: an absolute path as it came from outside.
    Raises:
        OutsideRootsError: it is not, or there is nothing.
    """
    if not roots:
        raise OutsideRootsError("no folders are configured; set web.roots")
    if not text or "\0" in text or not Path(text).is_absolute():
        raise OutsideRootsError(f"{text!r} is no absolute path")
    try:
        real = Path(text).resolve(strict=True)
    except (OSError, RuntimeError):
        real = None
    if real is None or not any(real.is_relative_to(root.resolve()) for root in roots):
        raise OutsideRootsError(f"{text} does not exist below the folders in web.roots")
    return real


def listing(roots: Sequence[Path], text: str) -> Listing:
    """What is in a folder; with "" the roots themselves.

    Raises:
        OutsideRootsError: see `resolve`; also when it is no folder or cannot be read.
    """
    if not text:
        return Listing("", None, [FolderEntry(str(root), str(root), True, 0) for root in roots])
    folder = resolve(roots, text)
    entries: list[FolderEntry] = []
    is_complete = True
    try:
        with os.scandir(folder) as found:
            for each in found:
                if len(entries) == MAX_ENTRIES:
                    is_complete = False
                    break
                entry = _entry(roots, each)
                if entry is not None:
                    entries.append(entry)
    except OSError as error:
        raise OutsideRootsError(f"{folder} cannot be listed: {error.strerror}") from None
    entries.sort(key=lambda entry: (not entry.is_folder, entry.name.lower()))
    is_root = any(folder == root.resolve() for root in roots)
    return Listing(str(folder), "" if is_root else str(folder.parent), entries, is_complete)


def _entry(roots: Sequence[Path], found: os.DirEntry[str]) -> FolderEntry | None:
    """One entry; None when it is a link that leads out of the roots, or no file or folder."""
    try:
        if found.is_symlink():
            resolve(roots, found.path)
        if found.is_dir():
            return FolderEntry(found.name, found.path, True, 0)
        if found.is_file():
            return FolderEntry(found.name, found.path, False, found.stat().st_size)
    except (OSError, OutsideRootsError):
        pass
    return None
