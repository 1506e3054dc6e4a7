"""Tells a thread that works for a request whether the client still waits for the answer.

Work that takes long looks now and then, and ends once its client is gone: what it holds is free for
others.
"""

from __future__ import annotations

import asyncio
import time
from typing import Annotated, Final

from fastapi import Depends, Request
from starlette.requests import ClientDisconnect

_LOOK_AGAIN_S: Final = 0.25


class ClientWatch:
    """Watches the client of a request; for the thread that works for it.

    Args:
        loop: the event loop that serves the request; without one its client is never gone.
    """

    def __init__(self, request: Request, loop: asyncio.AbstractEventLoop | None = None) -> None:
        self.request = request
        self._loop = loop
        self._look_at = time.monotonic() + _LOOK_AGAIN_S

    def is_time_to_look(self) -> bool:
        """Whether to ask again if the client is still there; it costs more than a frame."""
        now = time.monotonic()
        if now < self._look_at:
            return False
        self._look_at = now + _LOOK_AGAIN_S
        return True

    def look(self) -> None:
        """Ask now and then whether the client is still there.

        Raises:
            ClientDisconnect: it is not.
        """
        if self.is_time_to_look() and self._is_gone():
            raise ClientDisconnect

    def _is_gone(self) -> bool:
        if self._loop is None:
            return False
        asked = self.request.is_disconnected()
        return asyncio.run_coroutine_threadsafe(asked, self._loop).result()


async def _watch(request: Request) -> ClientWatch:
    return ClientWatch(request, asyncio.get_running_loop())


Watch = Annotated[ClientWatch, Depends(_watch)]
