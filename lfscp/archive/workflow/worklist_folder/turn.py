"""Lets one process of a node at a time bring the worklist folder into the index.

The file of the lock also says which folder that was, so that an empty folder in its place is not
taken for one whose files have gone.
"""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

from lfscp.archive.errors import not_writable

if TYPE_CHECKING:
    from lfscp.archive.workflow.worklist_folder.listing import Listing

TURN_FILE: Final = "worklist-folder"
_STEP_S: Final = 0.01


class FolderTurn:
    """The turn of one process.

    Args:
        data_dir: of the node.
        folder: of the worklist files.
    """

    def __init__(self, data_dir: Path, folder: Path) -> None:
        self._file = data_dir / TURN_FILE
        self._folder = str(folder)
        self._remembered = 0  # the inode that this process knows to be kept

    @contextmanager
    def taken(self, deadline: float) -> Iterator[bool]:
        """Hold the turn.

        Args:
            deadline: monotonic, until when to wait for others.
        Yields:
            Whether it is held.
        Raises:
            ArchiveError: the file of the lock cannot be opened.
        """
        try:
            descriptor = os.open(self._file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
        except OSError as error:
            raise not_writable("read the worklist folder", error, self._file.parent) from None
        try:
            yield _lock(descriptor, deadline)
        finally:
            os.close(descriptor)

    def knows(self, listing: Listing) -> bool:
        """Whether this process need not `remember` the folder."""
        return not listing.files or self._remembered == listing.inode

    def remember(self, listing: Listing) -> None:
        """Keep which folder has files; by the process that has the turn.

        Raises:
            ArchiveError: it cannot be written.
        """
        if self.knows(listing):
            return
        if self._kept() != (self._folder, listing.inode):
            said = {"folder": self._folder, "inode": listing.inode}
            try:
                self._file.write_text(json.dumps(said), encoding="utf-8")
            except OSError as error:
                raise not_writable("keep the worklist folder", error, self._file) from None
        self._remembered = listing.inode

    def is_another(self, listing: Listing) -> bool:
        """Whether the last folder with files at this path was another one."""
        folder, inode = self._kept()
        return folder == self._folder and inode != listing.inode

    def _kept(self) -> tuple[str, int]:
        """The path and the inode that are kept; none after a crash has cut the file."""
        with suppress(OSError, ValueError, KeyError, TypeError):
            said = json.loads(self._file.read_text(encoding="utf-8"))
            return str(said["folder"]), int(said["inode"])
        return "", 0


def _lock(descriptor: int, deadline: float) -> bool:
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline:
                return False
            time.sleep(_STEP_S)
        else:
            return True
