"""Limits the log lines about one address and about all, so that a flood does not fill the log.

Code asks before it writes a line. Lines that are left out are counted, and one line per span of
time says how many: of connections by the server, of requests by `REQUESTS` itself. A stored object
always has its line. Any thread may call any method.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

LOGGER = logging.getLogger(__name__)

LINES_OF_EACH: Final = 50
LINES_OF_ALL: Final = 200
SPAN_S: Final = 10.0
# Requests are more than connections: an honest peer may well echo or ask some times a second.
_REQUESTS_OF_EACH: Final = 500
_REQUESTS_OF_ALL: Final = 2000
_NAMED: Final = 3  # addresses that one line names
_COUNTED: Final = 1000  # addresses that are told apart
_OTHERS: Final = ""


@dataclass(frozen=True, slots=True)
class LeftOut:
    """Lines that were not written.

    Args:
        count: how many.
        seconds: in how long.
        most: addresses that they were about, those first of which there were most, with counts.
    """

    count: int
    seconds: float
    most: tuple[tuple[str, int], ...]

    def __str__(self) -> str:
        named = ", ".join(f"{count} of {address}" for address, count in self.most)
        others = self.count - sum(count for _, count in self.most)
        return f"{self.count} in {self.seconds:.0f} s: {named}" + (
            f", {others} of others" if others else ""
        )


class LogBudget:
    """Lines that may be written in a span of time.

    Args:
        of_each: most lines about one address.
        of_all: most lines in all.
        span_s: the span, in seconds.
        clock: monotonic, in seconds.

    Attributes:
        span_s: the span, in seconds.
    """

    def __init__(
        self,
        of_each: int = LINES_OF_EACH,
        of_all: int = LINES_OF_ALL,
        span_s: float = SPAN_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._of_each = of_each
        self._of_all = of_all
        self.span_s = span_s
        self._clock = clock
        self._lock = threading.Lock()
        self._began_at = clock()
        self._written: Counter[str] = Counter()
        self._lines = 0
        self._left_out: Counter[str] = Counter()

    def allows(self, address: str) -> bool:
        """Whether a line about an address may be written; when not, it is counted."""
        with self._lock:
            if not self._left_out and self._clock() - self._began_at >= self.span_s:
                self._begin_anew()
            if self._lines < self._of_all and self._written[address] < self._of_each:
                self._lines += 1
                self._written[address] += 1
                return True
            known = address in self._left_out or len(self._left_out) < _COUNTED
            self._left_out[address if known else _OTHERS] += 1
            return False

    @property
    def is_over(self) -> bool:
        """Whether lines are left out now."""
        return bool(self._left_out)

    def left_out(self, *, now: bool = False) -> LeftOut | None:
        """The lines left out, once the span is over; None before, and when there are none.

        Args:
            now: say it before the span is over.
        """
        with self._lock:
            seconds = self._clock() - self._began_at
            if not self._left_out or (seconds < self.span_s and not now):
                return None
            count = self._left_out.total()
            del self._left_out[_OTHERS]
            found = LeftOut(count, seconds, tuple(self._left_out.most_common(_NAMED)))
            self._begin_anew()
            return found

    def _begin_anew(self) -> None:
        self._began_at = self._clock()
        self._written.clear()
        self._left_out.clear()
        self._lines = 0


class RequestLines:
    """The budget of lines about requests, but for objects that were stored.

    Args:
        budget: of the lines; by default 500 about one address and 2,000 in all in ten seconds.
    """

    def __init__(self, budget: LogBudget | None = None) -> None:
        self._budget = budget or LogBudget(_REQUESTS_OF_EACH, _REQUESTS_OF_ALL)
        self._lock = threading.Lock()
        self._timer: threading.Timer | None = None

    def allows(self, address: str) -> bool:
        """Whether a line about a request of an address may be written; else it is said later."""
        if self._budget.allows(address):
            return True
        with self._lock:
            if self._timer is None:
                self._timer = threading.Timer(self._budget.span_s, self.say_left_out)
                self._timer.daemon = True
                self._timer.start()
        return False

    def say_left_out(self) -> None:
        """Log now which lines were left out."""
        with self._lock:
            timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()
        left_out = self._budget.left_out(now=True)
        if left_out is not None:
            LOGGER.warning("More requests were answered, not logged one by one: %s", left_out)


REQUESTS: Final = RequestLines()
