"""How much is in the archive, counted once for all who ask: the pages, the API and `/metrics`.

Rule: counting reads the whole index. So it is done again only after a hundred times as long as it
took, and after some seconds at least; by one thread, while others wait for its result.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from lfscp.archive.archive import Archive, Statistics

COUNTED_FOR_S: Final = 5.0
SHARE_OF_TIME: Final = 0.01  # of counting, at most


class ArchiveCounts:
    """The counts of one archive. Any thread may ask."""

    def __init__(self, archive: Archive) -> None:
        self._archive = archive
        self._lock = threading.Lock()
        self._counted: Statistics | None = None
        self._again_at = 0.0

    def now(self) -> Statistics:
        """How much is in the archive, as it was counted last.

        Raises:
            ArchiveError: the index cannot be read.
        """
        with self._lock:
            began = time.monotonic()
            if self._counted is None or began >= self._again_at:
                self._counted = self._archive.statistics()
                ended = time.monotonic()
                self._again_at = ended + max(COUNTED_FOR_S, (ended - began) / SHARE_OF_TIME)
            return self._counted
