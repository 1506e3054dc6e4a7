"""Lets each visitor have some requests served at once; the others wait in their order.

Rules: a request that waits holds no more than its connection does. It has its turn until its answer
is sent, so that slow readers hold back their own requests and nobody else's. For the thread of the
server's event loop.
"""

from __future__ import annotations

import asyncio
from typing import Final

AT_ONCE: Final = 64  # each may have a megabyte of its answer in memory
# Enough to keep the processes busy that draw, and few that others must wait for.
PICTURES_AT_ONCE: Final = 4


class Turns:
    """The turns of all visitors.

    Args:
        at_once: requests of one visitor.
    """

    def __init__(self, at_once: int = AT_ONCE) -> None:
        self._at_once = at_once
        self._lanes: dict[str, _Lane] = {}

    @property
    def taken(self) -> int:
        """Requests that are served or wait."""
        return sum(lane.requests for lane in self._lanes.values())

    def of(self, visitor: str) -> _Turn:
        """A turn: waits for it at the beginning of an `async with`, and has it until its end.

        The block is given whether there was a wait; the client may have gone away meanwhile.
        """
        return _Turn(self._lanes, self._at_once, visitor)


class _Turn:
    """One turn; a class of its own, since a generator costs several times as much."""

    __slots__ = ("_lane", "_lanes", "_visitor")

    def __init__(self, lanes: dict[str, _Lane], at_once: int, visitor: str) -> None:
        self._lanes = lanes
        self._visitor = visitor
        found = lanes.get(visitor)
        if found is None:
            found = lanes[visitor] = _Lane(at_once)
        self._lane = found

    async def __aenter__(self) -> bool:
        lane = self._lane
        lane.requests += 1
        try:
            has_waited = lane.turns.locked()
            await lane.turns.acquire()
        except BaseException:
            self._leave()
            raise
        return has_waited

    async def __aexit__(self, *_: object) -> None:
        self._lane.turns.release()
        self._leave()

    def _leave(self) -> None:
        self._lane.requests -= 1
        if not self._lane.requests:
            del self._lanes[self._visitor]


class _Lane:
    """The requests of one visitor."""

    def __init__(self, at_once: int) -> None:
        self.turns = asyncio.Semaphore(at_once)
        self.requests = 0
