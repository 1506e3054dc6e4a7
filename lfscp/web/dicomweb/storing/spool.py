"""A file of the archive's incoming folder: takes what arrives, within the limits of the disk."""

from __future__ import annotations

import os
import uuid
from pathlib import Path
from typing import Final

from lfscp.archive.archive import Archive
from lfscp.archive.errors import OutOfResourcesError

LOOK_AT_SPACE_BYTES: Final = 16 << 20
_MEGABYTE: Final = 1_000_000


class Spool:
    """One file; open from `open` to `close`, and there until `remove`.

    Args:
        max_mb: the most megabytes that it may have (storage.max_object_mb); 0 for no limit.
    """

    def __init__(self, archive: Archive, max_mb: int = 0) -> None:
        self.path: Path = archive.incoming_dir / f"stow-{uuid.uuid4().hex}"
        self.size = 0
        self._space = archive.space
        self._max_mb = max_mb
        self._unchecked = 0
        self._descriptor = -1

    def open(self) -> None:
        """Make the file, or open it again to add to it.

        Raises:
            OutOfResourcesError: it cannot be made.
        """
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
        try:
            self._descriptor = os.open(self.path, flags, 0o640)
        except OSError as error:
            raise _not_written(error) from None

    def write(self, piece: memoryview) -> None:
        """Add bytes.

        Raises:
            OutOfResourcesError: the disk is full, or the file larger than an object may be.
        """
        self.size += len(piece)
        self._unchecked += len(piece)
        if self._unchecked >= LOOK_AT_SPACE_BYTES:
            self._space.require_for(0)
            self._unchecked = 0
        try:
            while piece:
                piece = piece[os.write(self._descriptor, piece) :]
        except OSError as error:
            raise _not_written(error) from None
        if self._max_mb and self.size > self._max_mb * _MEGABYTE:
            reason = f"it is larger than {self._max_mb} MB (storage.max_object_mb)"
            raise OutOfResourcesError("store the instance", reason)

    def close(self) -> None:
        """Close the file; once or several times."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def remove(self) -> None:
        """Close the file and remove it, if the archive has not taken it over."""
        self.close()
        self.path.unlink(missing_ok=True)


def _not_written(error: OSError) -> OutOfResourcesError:
    return OutOfResourcesError("store the instance", error.strerror or "it cannot be written")
