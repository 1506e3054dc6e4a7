"""Calls that other threads ask the thread that serves an association for, made while it is idle.

An association that expects none waits in the socket's read, and knows nothing of this. One that
does waits for the socket and for a call together. The peer goes first: a call is made once the peer
has been quiet for a moment, or when the association has ended.
"""

from __future__ import annotations

import os
import select
import threading
from collections import deque
from collections.abc import Callable
from typing import Final

from lfscp.upperlayer.connection.errors import ReadTimeoutError
from lfscp.upperlayer.connection.transport import InlineSocket

Call = Callable[[], object]

# Who sends one request after another is not asked anything in between: not every peer that waits
# for a response takes a request meanwhile, as it should.
QUIET_S: Final = 0.25


class IdleCalls:
    """Of one association. Any thread may `ask`; the others are for the thread that serves it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._asked: deque[Call] = deque()
        self._expected = 0
        self._wake = -1  # an eventfd, while calls are expected

    @property
    def are_expected(self) -> bool:
        """Whether a call may come."""
        return self._expected > 0

    def expect(self) -> None:
        """Another thread will ask for one call more."""
        with self._lock:
            self._expected += 1
            if self._wake < 0:
                self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)

    def ask(self, call: Call) -> bool:
        """Have a call made that is expected; False when the association has ended."""
        with self._lock:
            if self._wake < 0:
                return False
            self._asked.append(call)
            os.eventfd_write(self._wake, 1)
            return True

    def await_peer(self, sock: InlineSocket, timeout_s: float | None) -> Call | None:
        """Wait until the peer sends something, or a call can be made, which is given.

        Raises:
            ReadTimeoutError: neither for `timeout_s`.
        """
        if sock.has_data() or sock.socket is None:
            return None
        peer = select.poll()
        peer.register(sock.socket, select.POLLIN)
        either = select.poll()
        either.register(sock.socket, select.POLLIN)
        either.register(self._wake, select.POLLIN)
        ready = dict(either.poll(None if timeout_s is None else 1000 * timeout_s))
        if not ready:
            raise ReadTimeoutError
        if sock.socket.fileno() in ready or peer.poll(1000 * QUIET_S):
            return None
        return self._take()

    def _take(self) -> Call | None:
        with self._lock:
            call = self._asked.popleft() if self._asked else None
            if call is not None:
                self._expected -= 1
            if not self._asked:
                os.eventfd_read(self._wake)
            if not self._expected:
                self._close()
        return call

    def end(self) -> None:
        """The association has ended: make the calls that wait, and take no more."""
        with self._lock:
            self._close()
        while self._asked:
            self._asked.popleft()()

    def _close(self) -> None:
        self._expected = 0
        if self._wake >= 0:
            os.close(self._wake)
            self._wake = -1
