"""How much was stored lately and when the disks will be full, counted once for all who ask.

Rule: counting reads the newest part of the index. So it is done again only after a hundred times as
long as it took, and after some seconds at least.
"""

from __future__ import annotations

import shutil
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from lfscp.archive.index.browsing.stored_lately import HOUR_MS, StoredInHour, stored_since
from lfscp.archive.index.clock_readings import wall_ms
from lfscp.web.status.archive_counts import COUNTED_FOR_S, SHARE_OF_TIME

if TYPE_CHECKING:
    from lfscp.archive.archive import Archive

HOURS: Final = 24  # of the chart
DAYS: Final = 14  # from which the forecast is made
DAY_MS: Final = 24 * HOUR_MS
_NEVER_DAYS: Final = 3650


@dataclass(frozen=True, slots=True)
class StoredLately:
    """What was stored in the last hours and days.

    Args:
        hours: of the last day, the oldest first, also those in which nothing came.
        bytes_a_day: the mean of the days that are counted; `days` says how many these are.
    """

    hours: tuple[StoredInHour, ...]
    bytes_a_day: float
    days: float

    @property
    def instances(self) -> int:
        """How many came within the last day."""
        return sum(each.instances for each in self.hours)

    @property
    def size(self) -> int:
        """Bytes that came within the last day."""
        return sum(each.size for each in self.hours)

    @property
    def most(self) -> int:
        """The most instances of one hour."""
        return max((each.instances for each in self.hours), default=0)


@dataclass(frozen=True, slots=True)
class Disk:
    """A file system that the node writes to.

    Args:
        holds: what is there: "objects and index", for instance.
        reserve: bytes that the node leaves free.
        full_in_days: until only the reserve is left; None: it cannot be said, or in years.
    """

    holds: str
    folder: Path
    size: int
    free: int
    reserve: int
    full_in_days: float | None

    @property
    def used_percent(self) -> float:
        """How much of it is used."""
        return 100.0 * (self.size - self.free) / self.size if self.size else 0.0


class StoreRates:
    """What one archive stored lately. Any thread may ask."""

    def __init__(self, archive: Archive) -> None:
        self._archive = archive
        self._lock = threading.Lock()
        self._found: StoredLately | None = None
        self._again_at = 0.0

    def now(self) -> StoredLately:
        """What was stored lately, as it was counted last.

        Raises:
            SQLAlchemyError: the index cannot be read.
        """
        with self._lock:
            began = time.monotonic()
            if self._found is None or began >= self._again_at:
                self._found = self._count(wall_ms())
                ended = time.monotonic()
                self._again_at = ended + max(COUNTED_FOR_S, (ended - began) / SHARE_OF_TIME)
            return self._found

    def _count(self, now_ms: int) -> StoredLately:
        with self._archive.index.engine.connect() as connection:
            found = stored_since(connection, now_ms - DAYS * DAY_MS)
        by_hour = {each.since_ms: each for each in found}
        last = now_ms - now_ms % HOUR_MS
        begins = range(last - (HOURS - 1) * HOUR_MS, last + 1, HOUR_MS)
        hours = tuple(by_hour.get(each, StoredInHour(each, 0, 0)) for each in begins)
        # A node that is new has few days; one day at least, or a first upload would be a trend.
        days = min(DAYS, max(1.0, (now_ms - found[0].since_ms) / DAY_MS)) if found else DAYS
        return StoredLately(hours, sum(each.size for each in found) / days, days)

    def disks(self, stored: StoredLately) -> list[Disk]:
        """The file systems of the archive; those that are gone are left out.

        Args:
            stored: what the forecast is made from.
        """
        folders = {"index": self._archive.data_dir}
        if not self._archive.files.is_remote:
            folders["objects"] = Path(self._archive.files.root)
        by_device: dict[int, list[tuple[str, Path]]] = {}
        for holds, folder in folders.items():
            try:
                by_device.setdefault(folder.stat().st_dev, []).append((holds, folder))
            except OSError:  # gone with its mount; the checks say so
                continue
        return [self._disk(each, stored) for each in by_device.values()]

    def _disk(self, held: list[tuple[str, Path]], stored: StoredLately) -> Disk:
        names = [name for name, _ in held]
        found = shutil.disk_usage(held[-1][1])
        reserve = self._archive.space.reserve_of(found.total)
        takes_objects = "objects" in names and stored.bytes_a_day > 0
        days = max(0, found.free - reserve) / stored.bytes_a_day if takes_objects else None
        full_in = days if days is not None and days < _NEVER_DAYS else None
        holds = " and ".join(reversed(names))
        return Disk(holds, held[-1][1], found.total, found.free, reserve, full_in)
