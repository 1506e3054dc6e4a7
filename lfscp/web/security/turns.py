"""Lets each visitor have some requests served at once; the others wait in their order.

Rules: a request that waits holds no more than its connection does. It has its turn until its answer
is sent, so that slow readers hold back their own requests and nobody else's. For the thread of the
server's event loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
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

    @asynccontextmanager
    async def of(self, visitor: str) -> AsyncGenerator[bool, None]:
        """Wait for a turn, and have it for as long as the block lasts.

        Returns:
            Whether there was a wait; the client may have gone away meanwhile.
        """
        lane = self._lanes.setdefault(visitor, _Lane(self._at_once))
        lane.requests += 1
        try:
            has_waited = lane.turns.locked()
            async with lane.turns:
                yield has_waited
        finally:
            lane.requests -= 1
            if not lane.requests:
                del self._lanes[visitor]


class _Lane:
    """The requests of one visitor."""

    def __init__(self, at_once: int) -> None:
        self.turns = asyncio.Semaphore(at_once)
        self.requests = 0
