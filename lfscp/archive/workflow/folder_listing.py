"""The state of a folder of worklist files: which files there are, and what each is known by.

Files stand in the folder itself, or in folders in it: wlmscpfs has one for each AE title.
"""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from lfscp.archive.workflow.worklist_file import fingerprint_of, is_worklist_name

_PRIVATE: Final = 0xF700  # the first of 256 characters of private use

@dataclass(frozen=True, slots=True)
class Listing:
    """A folder as it was.

    Args:
        folders: the folder and those in it by path, each with what differs when a name in it does.
        files: the fingerprint of each worklist file by its name, from the folder on; empty for
            one that cannot be looked at.
        inode: of the folder itself.
    """

    folder: Path
    folders: dict[str, str]
    files: dict[str, str]
    inode: int

    def path(self, name: str) -> Path:
        """Where a file of it is."""
        return self.folder / os.fsdecode(_bytes(name))

    def has_same_names(self) -> bool:
        """Whether no name was added or removed since, as far as the times of folders tell."""
        try:
            return all(_state(path) == state for path, state in self.folders.items())
        except OSError:
            return False


def list_folder(folder: Path) -> Listing:
    """List a folder.

    Raises:
        OSError: it, or a folder in it, cannot be read.
    """
    root = str(folder)
    folders = {root: _state(root)}  # before its names: what comes meanwhile is seen again
    inode = os.stat(root).st_ino  # noqa: PTH116 - as text, which scandir takes and gives
    files, inside = _names(root, "")
    for name in sorted(inside):
        path = f"{root}/{name}"
        try:
            state = _state(path)
            files |= _names(path, f"{name}/")[0]
        except (FileNotFoundError, NotADirectoryError):  # it has gone since
            continue
        folders[path] = state
    return Listing(folder, folders, files, inode)


def _state(path: str) -> str:
    found = os.stat(path)  # noqa: PTH116
    return f"{found.st_mtime_ns}:{found.st_dev}:{found.st_ino}"


def _names(path: str, prefix: str) -> tuple[dict[str, str], list[str]]:
    """The worklist files of one folder with their fingerprints, and the folders in it."""
    files: dict[str, str] = {}
    folders: list[str] = []
    with os.scandir(path) as entries:
        for entry in entries:
            if is_worklist_name(entry.name):
                fingerprint = _fingerprint(entry)
                if fingerprint is not None:
                    files[_text(prefix + entry.name)] = fingerprint
            elif not prefix and not entry.name.startswith(".") and _is_folder(entry):
                folders.append(entry.name)
    return files, folders


def _fingerprint(entry: os.DirEntry[str]) -> str | None:
    """The fingerprint of a file; None when it is none, or has gone since."""
    try:
        found = entry.stat()
    except FileNotFoundError:  # or a link to nothing
        return None
    except OSError:
        return ""
    return fingerprint_of(found) if stat.S_ISREG(found.st_mode) else None


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that leads to itself
        return False


def _text(name: str) -> str:
    """A name as the index can keep it: bytes that are no UTF-8 are characters of private use."""
    try:
        return os.fsencode(name).decode()
    except UnicodeDecodeError:
        return "".join(chr(_PRIVATE + each) for each in os.fsencode(name))


def _bytes(name: str) -> bytes:
    """The name that became this text."""
    if name and all(_PRIVATE <= ord(each) <= _PRIVATE + 0xFF for each in name):
        return bytes(ord(each) - _PRIVATE for each in name)
    return name.encode()
