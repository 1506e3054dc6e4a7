"""Counts equal records of the audit trail, so that a flood of them does not fill the disk.

Each minute a number of equal records is written in full; the rest is counted, and one record at the
end of the minute says how many more there were. Records are equal if only their times differ.
Refusals (associations, logins, services) are equal if their kind and address are, whatever names
they give. Nothing else is held back. A SIGKILL loses the count of a minute, as it does the counts
of what an association has stored.
"""

from __future__ import annotations

import ipaddress
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

WINDOW_S: Final = 60.0
MAX_KINDS: Final = 1024  # remembered; the one that began first is closed for another

Tell = Callable[[int, float], None]


@dataclass(slots=True)
class _Kind:
    began_at: float
    tell: Tell
    written: int = 0
    counted: int = 0


class Repeats:
    """Counts records within the last minute. Any thread may call any method.

    Args:
        most: so many alike are written in full within a minute; 0 for all.
        clock: in seconds.
    """

    def __init__(self, most: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._most = most
        self._clock = clock
        self._kinds: OrderedDict[Hashable, _Kind] = OrderedDict()  # in the order of their beginning
        self._lock = threading.Lock()
        self._timer: threading.Timer | None = None

    def may_write(self, key: Hashable, tell: Tell) -> bool:
        """Whether a record is written; otherwise it is counted.

        Args:
            key: the same for records that are alike.
            tell: called with how many more there were and within how many seconds, later and in
                any thread.
        """
        if not self._most:
            return True
        now = self._clock()
        with self._lock:
            over = self._take_over(now)
            kind = self._kinds.get(key)
            if kind is None:
                kind = self._kinds[key] = _Kind(now, tell)
            if kind.written < self._most:
                kind.written += 1
                is_written = True
            else:
                kind.counted += 1
                kind.tell = tell
                is_written = False
                self._set_timer()
        if over:
            _tell(over, now)
        return is_written

    def tell(self) -> None:
        """Say at once how many more there were; when the process ends."""
        with self._lock:
            over = list(self._kinds.values())
            self._kinds.clear()
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None
        _tell(over, self._clock())

    def _take_over(self, now: float) -> list[_Kind]:
        """Take out those whose minute is over, and those above MAX_KINDS; lock held."""
        over = []
        while self._kinds:
            first = next(iter(self._kinds.values()))
            if now - first.began_at < WINDOW_S and len(self._kinds) < MAX_KINDS:
                break
            over.append(self._kinds.popitem(last=False)[1])
        return over

    def _set_timer(self) -> None:
        """Look again after a minute, if no record comes; lock held."""
        if self._timer is None:
            self._timer = threading.Timer(WINDOW_S, self._look)
            self._timer.daemon = True
            self._timer.start()

    def _look(self) -> None:
        now = self._clock()
        with self._lock:
            over = self._take_over(now)
            self._timer = None
            if any(kind.counted for kind in self._kinds.values()):
                self._set_timer()
        _tell(over, now)


def _tell(over: list[_Kind], now: float) -> None:
    for kind in over:
        if kind.counted:
            kind.tell(kind.counted, now - kind.began_at)


@lru_cache(1024)
def source_of(address: str) -> str:
    """What stands for an address: of IPv6 the network of 64 bits that one subscriber has."""
    with suppress(ValueError):
        found = ipaddress.ip_address(address.partition("%")[0])
        if found.version == 6 and found.ipv4_mapped is None:
            return str(ipaddress.ip_network((found, 64), strict=False))
    return address
