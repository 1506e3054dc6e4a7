"""Waits for the result of a statement that was sent to PostgreSQL, awake if that comes at once.

psycopg's own generators take 12 us more, and to be woken costs 30: together a sixth of a C-FIND by
UID. Rules: a thread waits awake only while it is the only one that waits, and if the last result
came promptly. Between two looks at the interruption the server is waited for a tenth of a second.
"""

from __future__ import annotations

import os
import select
import time
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from psycopg.pq.abc import PGconn, PGresult

    from lfscp.archive.index.database.interruption import Interruption

_PROMPT_S: Final = 0.000_3
_MAY_WAIT_AWAKE: Final = len(os.sched_getaffinity(0)) > 1  # the server may need the only one
_LOOK_MS: Final = 100


class SentStatements:
    """What waits on one connection. One thread uses it at a time.

    Args:
        pgconn: does not block; what was sent has been flushed.
    """

    def __init__(self, pgconn: PGconn) -> None:
        self._pgconn = pgconn
        self._poller = select.poll()
        self._poller.register(pgconn.socket, select.POLLIN)
        self._is_prompt = False  # the last result came within _PROMPT_S

    def last_result(self, interruption: Interruption, *, awake: bool) -> PGresult:
        """The result of the statement; of several the last.

        Args:
            interruption: asked while it is not there.
            awake: do not sleep at first, if the last result came promptly.
        Raises:
            psycopg.OperationalError: the connection is lost.
            InterruptionError: it is no longer wanted.
        """
        began = time.perf_counter()
        if awake and self._is_prompt:
            self._wait_awake(began + _PROMPT_S)
        results: list[PGresult] = []
        while (result := self._next_result(interruption)) is not None:
            results.append(result)
        self._is_prompt = _MAY_WAIT_AWAKE and time.perf_counter() - began < _PROMPT_S
        return results[-1]

    def _wait_awake(self, deadline: float) -> None:
        poll = self._poller.poll
        while not poll(0) and time.perf_counter() < deadline:
            pass

    def _next_result(self, interruption: Interruption) -> PGresult | None:
        while self._pgconn.is_busy():
            if self._poller.poll(_LOOK_MS):
                self._pgconn.consume_input()
            interruption.look()
        return self._pgconn.get_result()
