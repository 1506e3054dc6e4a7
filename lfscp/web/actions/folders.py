"""Lists the node's folders below `web.roots`, and checks that a path is in one of them.

Rules: a path is made real (links followed) before it is compared with the roots, so neither ".."
nor a symbolic link leads out. A path outside is answered like one that does not exist.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from lfscp.web.problems import Problem

MAX_ENTRIES: Final = 5000


@dataclass(frozen=True, slots=True)
class FolderEntry:
    """A file or folder; `size` in bytes, 0 for folders."""

    name: str
    path: str
    is_folder: bool
    size: int


@dataclass(frozen=True, slots=True)
class Listing:
    """The content of a folder, folders first.

    Args:
        path: the real path; "" for the list of the roots.
        parent: where "up" leads; None at the list of the roots.
        is_complete: False when the folder has more than MAX_ENTRIES.
    """

    path: str
    parent: str | None
    entries: list[FolderEntry]
    is_complete: bool = True


def resolve(roots: Sequence[Path], text: str, field: str = "") -> Path:
    """Make a path real and check that it is below a root.

    Args:
        roots: the setting `web.roots`.
        text: an absolute path from a request.
        field: its name in the request, for the answer.
    Raises:
        Problem: it is outside, or does not exist.
    """
    where = f"{field}: " if field else ""
    if not roots:
        raise Problem(403, f"{where}no folders are configured; set web.roots")
    if not text or "\0" in text or not Path(text).is_absolute():
        raise Problem(403, f"{where}{text!r} is not an absolute path")
    try:
        real = Path(text).resolve(strict=True)
    except (OSError, RuntimeError):
        real = None
    if real is None or not any(real.is_relative_to(root.resolve()) for root in roots):
        raise Problem(403, f"{where}{text} does not exist below the folders in web.roots")
    return real


def listing(roots: Sequence[Path], text: str) -> Listing:
    """List a folder; with "" the roots themselves.

    Raises:
        Problem: see `resolve`; also when it is not a folder or cannot be read.
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
                entries += _entry(roots, each)
    except OSError as error:
        raise Problem(403, f"{folder} cannot be listed: {error.strerror}") from None
    entries.sort(key=lambda entry: (not entry.is_folder, entry.name.lower()))
    is_root = any(folder == root.resolve() for root in roots)
    return Listing(str(folder), "" if is_root else str(folder.parent), entries, is_complete)


def _entry(roots: Sequence[Path], found: os.DirEntry[str]) -> list[FolderEntry]:
    """One entry; none when it is a link that leads out of the roots, or a device."""
    try:
        if found.is_symlink():
            resolve(roots, found.path)
        if found.is_dir():
            return [FolderEntry(found.name, found.path, True, 0)]
        if found.is_file():
            return [FolderEntry(found.name, found.path, False, found.stat().st_size)]
    except (OSError, Problem):
        pass
    return []
