"""Keeps room at the end of SQLite's write-ahead log, so that a commit writes over bytes of it.

A commit that makes the log longer waits twice for an ext4 with a journal: for its bytes, and for
the file's new length. One that writes over bytes waits once. SQLite takes zeros behind its frames
for the end of the log, and never makes the log shorter while it is open.

Rules: room is added when SQLite has made the log longer, which shows in a length that is no
multiple of a megabyte. So all processes that write to the log see the same. The zeros are appended,
in one call: what another program has just appended is not written over.
"""

from __future__ import annotations

import os
from contextlib import suppress
from typing import Final

from lfscp.archive.store.file_systems import is_written_in_place

_UNIT: Final = 1 << 20
_MAX_ROOM: Final = 4 << 20  # a log grows by this much at once


class LogRoom:
    """The room of one log. One thread may call it at a time.

    Args:
        path: of the log, which is there while SQLite has its database open; empty for none.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._descriptor = -1
        self._pays: bool | None = None  # not looked at yet

    def make(self) -> None:
        """Make the log longer when it has no room left; on a full disk SQLite says so, not this."""
        if self._pays is False or not self._is_open():
            return
        length = os.fstat(self._descriptor).st_size
        if length % _UNIT:
            with suppress(OSError):
                os.write(self._descriptor, bytes(room_behind(length)))

    def _is_open(self) -> bool:
        """Open the log, once SQLite has made it."""
        if self._pays is None:
            self._pays = bool(self._path) and is_written_in_place(self._path)
        if self._pays and self._descriptor < 0:
            with suppress(OSError):
                self._descriptor = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
        return self._descriptor >= 0

    def close(self) -> None:
        """Let go of the log."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def room_behind(length: int) -> int:
    """How many bytes to add to a log, so that it is about twice as long and a multiple of 1 MB."""
    room = min(length, _MAX_ROOM)
    return room + -(length + room) % _UNIT
