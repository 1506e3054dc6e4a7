"""How much is in the archive, counted once for all who ask: the pages, the API and `/metrics`.

Rule: counting reads the whole index. So it is done again only after a hundred times as long as it
took, and after some seconds at least; by one thread, while others wait for its result. The page of
the archive does not wait for a count that takes long.
"""

from __future__ import annotations

import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Final, NamedTuple

from lfscp.archive.errors import ArchiveError

if TYPE_CHECKING:
    from lfscp.archive.archive import Archive, Statistics

COUNTED_FOR_S: Final = 5.0
SHARE_OF_TIME: Final = 0.01  # of counting, at most
QUICK_S: Final = 0.02  # a count that takes no longer is worth waiting for
FIRST_WAIT_S: Final = 0.25  # for the first one


class Lately(NamedTuple):
    """What was counted last.

    Args:
        at_ms: when, since 1970 UTC.
        is_old: it is being counted again.
    """

    statistics: Statistics
    at_ms: int
    is_old: bool


class ArchiveCounts:
    """The counts of one archive. Any thread may ask."""

    def __init__(self, archive: Archive) -> None:
        self._archive = archive
        self._lock = threading.Lock()
        self._beginning = threading.Lock()
        self._behind: threading.Thread | None = None  # counts for those who do not wait
        self._counted: Statistics | None = None
        self._at_ms = 0
        self._took_s = 0.0
        self._again_at = 0.0

    def now(self) -> Statistics:
        """How much is in the archive, as it was counted last.

        Raises:
            ArchiveError: the index cannot be read.
        """
        with self._lock:
            if self._counted is None or self._is_due():
                began = time.monotonic()
                self._counted = self._archive.statistics()
                ended = time.monotonic()
                self._took_s, self._at_ms = ended - began, time.time_ns() // 1_000_000
                self._again_at = ended + max(COUNTED_FOR_S, self._took_s / SHARE_OF_TIME)
            return self._counted

    def lately(self) -> Lately | None:
        """The same without waiting for a count that takes long: it is counted behind, then.

        Returns:
            None if it was never counted, and that takes more than FIRST_WAIT_S.
        """
        if self._is_due():
            with suppress(RuntimeError):  # the system has no thread left
                behind = self._count_behind()
                if self._counted is None or self._took_s <= QUICK_S:
                    behind.join(FIRST_WAIT_S)
        if self._counted is None:
            return None
        return Lately(self._counted, self._at_ms, self._is_due())

    def _is_due(self) -> bool:
        return time.monotonic() >= self._again_at  # which is so before the first time

    def _count_behind(self) -> threading.Thread:
        """The thread that counts; raises RuntimeError if the system starts none."""
        with self._beginning:
            if self._behind is None or not self._behind.is_alive():
                behind = threading.Thread(target=self._count, name="lfscp-count", daemon=True)
                behind.start()
                self._behind = behind
            return self._behind

    def _count(self) -> None:
        with suppress(ArchiveError):  # whoever asks for rows hears of it
            self.now()
