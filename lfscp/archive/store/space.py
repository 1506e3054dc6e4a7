"""The reserve of free disk: below it nothing is stored, so that the node itself can live on.

Rules: while there is room the file systems are asked once a second at most, whatever is stored
meanwhile, so the reserve must be larger than what arrives in a second. A store that is refused
has written nothing; reading goes on; the first store after there is room again is taken.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final

from lfscp.archive.errors import OutOfResourcesError

AUTOMATIC: Final = -1  # megabytes: DEFAULT_BYTES, or PART_OF_A_SMALL_DISK of it if that is less
DEFAULT_BYTES: Final = 512_000_000
PART_OF_A_SMALL_DISK: Final = 0.01
MEGABYTE: Final = 1_000_000
_ASK_AGAIN_S: Final = 1.0


class Space:
    """The room on the file systems that the archive writes to. Any thread may call any method.

    Args:
        folders: of the objects and of the index; each must exist.
        reserve_mb: megabytes to leave free on each; 0 for none, AUTOMATIC for a sane number.
        absence: says why the folders are not the archive's at all now; empty when they are.
    """

    def __init__(
        self,
        folders: Iterable[Path],
        reserve_mb: int = AUTOMATIC,
        absence: Callable[[], str] = str,
    ) -> None:
        # One folder per file system.
        by_device = {os.stat(folder).st_dev: str(folder) for folder in folders}  # noqa: PTH116
        self._folders = list(by_device.values()) if reserve_mb else []
        self._reserve_mb = reserve_mb
        self._absence = absence
        self._ask_at = 0.0
        self._shortage = ""

    @property
    def shortage(self) -> str:
        """Why nothing is stored now, in words; empty while there is room."""
        now = time.monotonic()
        if now >= self._ask_at:
            shortages = map(self._shortage_in, self._folders)
            self._shortage = self._absence() or next(filter(None, shortages), "")
            # After a refusal there is time to look again at once.
            self._ask_at = now if self._shortage else now + _ASK_AGAIN_S
        return self._shortage

    def require(self) -> None:
        """Let a store go on.

        Raises:
            OutOfResourcesError: less than the reserve is free.
        """
        shortage = self.shortage
        if shortage:
            raise OutOfResourcesError(
                "store the instance", shortage, "make room on the disk, or lower storage.reserve_mb"
            )

    def require_for(self, size: int) -> None:
        """Let something of known size be written.

        Raises:
            OutOfResourcesError: less than the reserve would be free.
        """
        shortage = next(filter(None, (self._shortage_in(each, size) for each in self._folders)), "")
        if shortage:
            raise OutOfResourcesError("store the instance", shortage, "free space")

    def reserve_of(self, size: int) -> int:
        """How many bytes stay free on a file system of this size."""
        if self._reserve_mb == AUTOMATIC:
            return min(DEFAULT_BYTES, int(size * PART_OF_A_SMALL_DISK))
        return self._reserve_mb * MEGABYTE

    def _shortage_in(self, folder: str, wanted: int = 0) -> str:
        try:
            found = os.statvfs(folder)
        except OSError as error:
            return f"{error.strerror}: {folder}"
        free = found.f_bavail * found.f_frsize
        reserve = self.reserve_of(found.f_blocks * found.f_frsize)
        if free - wanted >= reserve:
            return ""
        if free >= reserve:
            return f"{wanted // MEGABYTE} MB are not free beside the reserve"
        return f"{free // MEGABYTE} MB are free, below the reserve of {reserve / MEGABYTE:g} MB"
