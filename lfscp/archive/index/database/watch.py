"""Ends waits for PostgreSQL that are too long: a session may hang, and hear of no time limit.

Rules: a thread looks now and then, and cuts the connection of such a session. Whoever waits for it
hears that it is lost, and does its work again as after any other loss.
"""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

import psycopg

from lfscp.archive.index.database.connections import DriverConnection

_LOOK_S: Final = 1.0


class Watch:
    """Cuts connections that wait for the server too long. Any thread may call any method.

    Args:
        was_cut: called after that.
    """

    def __init__(self, was_cut: Callable[[], object]) -> None:
        self._was_cut = was_cut
        self.reset()

    def reset(self) -> None:
        """Forget the connections: they are the parent's."""
        self._lock = threading.Lock()
        self._until: dict[DriverConnection, float] = {}  # by the monotonic clock
        self._ending: threading.Event | None = None  # of the thread that looks

    @contextmanager
    def over(self, connection: DriverConnection, patience_s: float) -> Iterator[None]:
        """Watch a connection, which the calling thread uses for so long at most."""
        with self._lock:
            self._until[connection] = time.monotonic() + patience_s
            if self._ending is None:
                self._begin()
        try:
            yield
        finally:
            with self._lock:  # nobody else touches it from here on
                self._until.pop(connection, None)

    def close(self) -> None:
        """End the thread; the next use begins another."""
        with self._lock:
            if self._ending is not None:
                self._ending.set()
            self._ending = None

    def _begin(self) -> None:
        ending = threading.Event()
        thread = threading.Thread(
            target=self._look, args=(ending,), name="lfscp-index-watch", daemon=True
        )
        with contextlib.suppress(RuntimeError):  # there is no thread to be had: the next time
            thread.start()
            self._ending = ending

    def _look(self, ending: threading.Event) -> None:
        while not ending.wait(_LOOK_S):
            if self._cut_stuck():
                self._was_cut()

    def _cut_stuck(self) -> bool:
        """Cut the connections whose time is over; who waits for them hears of that."""
        with self._lock:
            now = time.monotonic()
            stuck = [connection for connection, until in self._until.items() if now >= until]
            for connection in stuck:
                del self._until[connection]
                _cut(connection)
        return bool(stuck)


def _cut(connection: DriverConnection) -> None:
    with (
        contextlib.suppress(psycopg.Error, OSError),  # it is lost already
        socket.socket(fileno=os.dup(connection.fileno())) as its_own,
    ):
        its_own.shutdown(socket.SHUT_RDWR)
