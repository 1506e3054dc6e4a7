"""How fast the queues of routes are sent, from how much they had sent at earlier looks.

The index counts what was sent for all nodes. So a rate is that of all nodes too, and it is known
from the second look on.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

from lfscp.routing.queue_rows import QueueName
from lfscp.routing.steering import QueueState

_WINDOW_S: Final = 60.0
_LEAST_S: Final = 1.0  # between two looks that are kept


@dataclass(frozen=True, slots=True)
class QueueRate:
    """What a queue has sent a second of late: objects and bytes."""

    instances_s: float
    bytes_s: float


NONE: Final = QueueRate(0.0, 0.0)
_Look = tuple[float, int, int]  # when, and the objects and bytes that were sent till then


class QueueRates:
    """The rates of all queues over the last minute. Any thread may ask.

    Args:
        clock: gives the time in seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._looks: dict[QueueName, deque[_Look]] = {}

    def of(self, states: Iterable[QueueState]) -> dict[QueueName, QueueRate]:
        """The rate of each queue, which is looked at now."""
        now = self._clock()
        with self._lock:
            found = {}
            for state in states:
                name = QueueName(state.route, state.destination)
                look = (now, state.sent, state.sent_bytes)
                found[name] = _rate(self._looks.setdefault(name, deque()), look)
            for name in self._looks.keys() - found.keys():
                del self._looks[name]
            return found


def _rate(looks: deque[_Look], look: _Look) -> QueueRate:
    now = look[0]
    while looks and (now - looks[0][0] > _WINDOW_S or looks[0][1] > look[1]):
        looks.popleft()
    first = looks[0] if looks else look
    if not looks or now - looks[-1][0] >= _LEAST_S:
        looks.append(look)
    passed = now - first[0]
    if passed < _LEAST_S:
        return NONE
    return QueueRate((look[1] - first[1]) / passed, (look[2] - first[2]) / passed)
