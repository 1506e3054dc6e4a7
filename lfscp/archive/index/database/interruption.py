"""Ends long work once its result is no longer wanted.

Rules: the working thread checks now and then, at most five times a second. Inside a statement the
database's driver checks.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

_LOOK_AGAIN_S: Final = 0.2


class InterruptionError(Exception):
    """The answer is no longer wanted."""


class Interruption:
    """For one piece of work in one thread: whether its result is still wanted.

    Args:
        is_unwanted: asked in the thread that works; True ends the work.
        source: the address of the client, if its share of connections is limited; else empty.
    """

    def __init__(
        self, is_unwanted: Callable[[], bool] = lambda: False, *, source: str = ""
    ) -> None:
        self.source = source
        self._is_unwanted = is_unwanted
        self._next_look = time.monotonic() + _LOOK_AGAIN_S
        self._reason: BaseException | None = None

    def look(self) -> None:
        """Look whether to go on; cheap, to be called in every turn of a loop.

        Raises:
            InterruptionError: the result is no longer wanted.
        """
        if time.monotonic() < self._next_look:
            return
        if self._is_unwanted():
            raise InterruptionError
        self._next_look = time.monotonic() + _LOOK_AGAIN_S

    def ends_statement(self) -> bool:
        """Look from within a database's driver; True has it end the statement with an error."""
        try:
            self.look()
        except BaseException as reason:  # noqa: BLE001 - `require_none` raises it
            self._reason = reason
        return self._reason is not None

    def require_none(self) -> None:
        """Raise why a statement was ended, if it was."""
        if self._reason is not None:
            raise self._reason
