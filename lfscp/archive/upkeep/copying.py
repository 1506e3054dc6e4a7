"""Brings files from one tree to another, for backup and restore: by hard link, else by copy.

Rules: a name in the target tree stands for a whole file that is on disk: a copy is made under
another name, synced, and renamed. A link costs no space and no time; it is not tried again once the
file system has refused one. A file that is there already (the same file, or one of equal size and
time of change) is left as it is.
"""

from __future__ import annotations

import errno
import os
import shutil
from enum import Enum
from pathlib import Path
from typing import Final

from lfscp.archive.durability import PART, sync_folder

_NO_LINK: Final = (errno.EXDEV, errno.EPERM, errno.EMLINK, errno.EOPNOTSUPP, errno.ENOSYS)


class Brought(Enum):
    """How a file came to be in the target tree."""

    KEPT = "kept"
    LINKED = "linked"
    COPIED = "copied"


class Copier:
    """Brings files into one tree.

    Args:
        may_link: try hard links first.
    """

    def __init__(self, *, may_link: bool) -> None:
        self._may_link = may_link
        self._folders: set[Path] = set()  # with new names that are not yet on disk

    def is_there(self, source: Path, target: Path) -> bool:
        """Whether the target is the source file, or was copied from it as it is now.

        Raises:
            FileNotFoundError: there is no source.
        """
        wanted = source.stat()
        try:
            there = target.stat()
        except FileNotFoundError:
            return False
        if (there.st_dev, there.st_ino) == (wanted.st_dev, wanted.st_ino):
            return True
        return (there.st_size, there.st_mtime_ns) == (wanted.st_size, wanted.st_mtime_ns)

    def bring(self, source: Path, target: Path) -> Brought:
        """Put a file in its place, over what is there.

        Raises:
            OSError: it cannot be done; FileNotFoundError: there is no source.
        """
        part = target.with_name(target.name + PART)
        part.unlink(missing_ok=True)
        self._make_folder(target.parent)
        brought = self._link(source, part)
        if brought is Brought.COPIED:
            _copy(source, part)
        part.replace(target)
        part.unlink(missing_ok=True)  # renamed onto the same file, a link keeps both its names
        self._folders.add(target.parent)
        return brought

    def _link(self, source: Path, part: Path) -> Brought:
        if not self._may_link:
            return Brought.COPIED
        try:
            os.link(source, part)
        except OSError as error:
            if error.errno not in _NO_LINK:
                raise
            self._may_link = False
            return Brought.COPIED
        return Brought.LINKED

    def _make_folder(self, folder: Path) -> None:
        if folder.is_dir():
            return
        self._make_folder(folder.parent)
        folder.mkdir(mode=0o750, exist_ok=True)
        self._folders.add(folder.parent)

    def sync(self) -> None:
        """Have the new names on disk."""
        for folder in self._folders:
            sync_folder(folder)
        self._folders.clear()


def _copy(source: Path, target: Path) -> None:
    shutil.copyfile(source, target)
    times = source.stat()
    with target.open("rb+") as file:
        os.fchmod(file.fileno(), 0o640)
        os.utime(file.fileno(), ns=(times.st_atime_ns, times.st_mtime_ns))
        os.fsync(file.fileno())
