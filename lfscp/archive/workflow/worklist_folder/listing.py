"""The state of a folder of worklist files: which files there are, and what each is known by.

Files stand in the folder itself, or in folders in it: wlmscpfs has one for each AE title.
"""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass, field
from pathlib import Path

from lfscp.archive.workflow.worklist_folder.file import fingerprint_of, is_worklist_name


@dataclass(slots=True)
class Listing:
    """A folder as it was.

    Args:
        folder: its path.
        inode: of the folder itself.
        folders: the folder and those in it by path, each with what differs when a name in it does.
        files: the fingerprint of each worklist file by its name, from the folder on; empty for one
            that cannot be looked at.
        closed: folders in it that cannot be read, by name with the reason.
    """

    folder: Path
    inode: int
    folders: dict[str, str] = field(default_factory=dict)
    files: dict[str, str] = field(default_factory=dict)
    closed: dict[str, str] = field(default_factory=dict)
    _odd_names: dict[str, str] = field(default_factory=dict)  # those that are no UTF-8

    def path(self, name: str) -> Path:
        """Where a file of it is."""
        return self.folder / self._odd_names.get(name, name)

    def has_lost(self, name: str) -> bool:
        """Whether a file is gone; not while its folder cannot be read."""
        return name not in self.files and name.partition("/")[0] not in self.closed

    def has_same_names(self) -> bool:
        """Whether no name was added or removed since, as far as the times of folders tell."""
        try:
            return all(_state(path) == state for path, state in self.folders.items())
        except OSError:
            return False

    def add(self, path: str, prefix: str) -> list[str]:
        """Add the files of a folder; gives the names of the folders in it.

        Raises:
            OSError: the folder cannot be read.
        """
        self.folders[path] = _state(path)  # before its names: what comes meanwhile is seen again
        folders = []
        with os.scandir(path) as entries:
            for entry in entries:
                if is_worklist_name(entry.name):
                    self._add_file(entry, prefix + entry.name)
                elif not entry.name.startswith(".") and _is_folder(entry):
                    folders.append(entry.name)
        return folders

    def _add_file(self, entry: os.DirEntry[str], name: str) -> None:
        try:
            found = entry.stat()
            if not stat.S_ISREG(found.st_mode):
                return
            fingerprint = fingerprint_of(found)
        except FileNotFoundError:  # it has gone since, or is a link to nothing
            return
        except OSError:
            fingerprint = ""
        text = _as_text(name)
        if text != name:
            self._odd_names[text] = name
        self.files[text] = fingerprint


def list_folder(folder: Path) -> Listing:
    """List a folder.

    Raises:
        OSError: it cannot be read.
    """
    listing = Listing(folder, folder.stat().st_ino)
    for name in sorted(listing.add(str(folder), "")):
        path = f"{folder}/{name}"
        try:
            listing.add(path, f"{name}/")
        except (FileNotFoundError, NotADirectoryError):  # it has gone since
            listing.folders.pop(path, None)
        except OSError as error:  # such as lost+found, where a volume is mounted
            listing.folders.pop(path, None)
            listing.closed[_as_text(name)] = error.strerror or str(error)
    return listing


def _as_text(name: str) -> str:
    """A name as the index can keep it."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def _state(path: str) -> str:
    found = os.stat(path)  # noqa: PTH116 - as text, which scandir takes and gives
    return f"{found.st_mtime_ns}:{found.st_dev}:{found.st_ino}"


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that leads to itself
        return False
