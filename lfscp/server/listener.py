"""The listening sockets: bind, wait for a connection, and be woken from that wait.

The leader blocks here, in one poll of the socket and of a wake-up descriptor: a listening socket
may be systemd's or shared with other processes, so it cannot be shut down to end a wait. A second
socket, for TLS, is in the same poll, so one leader serves both and the caps hold for both. What can
pass by itself (no descriptors left, a client gone before it was accepted) is handled here, with a
pause, so that it never costs the pool its leader. No DICOM, no TLS.
The leader may wait for more than connections: a descriptor beside them, or a time.
"""

from __future__ import annotations

import errno
import logging
import os
import select
import socket
import struct
import threading
import time
from collections.abc import Callable
from typing import Final

from lfscp.observe.metrics import SHORTAGES

LOGGER = logging.getLogger(__name__)

DEFAULT_BACKLOG: Final = 1024
_UNACKED: Final = struct.Struct("=24xI")
_PAUSE_S: Final = 0.1
_SAY_AGAIN_S: Final = 60.0
_OUT_OF_RESOURCES: Final = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)

Address = tuple[str, int] | tuple[str, int, int, int]


class NothingAcceptedError(Exception):
    """The leader has something else to do."""


class ListenerClosedError(Exception):
    """Nobody listens any more."""


def bind(address: Address, backlog: int = DEFAULT_BACKLOG) -> socket.socket:
    """A listening TCP socket.

    Args:
        address: host and port; port 0 lets the system choose, "" is every IPv4 address.
        backlog: connections that may wait in the kernel.
    Raises:
        OSError: the address is in use, not allowed or not of this machine.
    """
    family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(address)
        sock.listen(backlog)
    except BaseException:
        sock.close()
        raise
    return sock


def queued(sock: socket.socket) -> int:
    """How many connections wait in the kernel at a listening socket; 0 when it does not say.

    Source: tcp(7), TCP_INFO; of a socket that listens `tcpi_unacked` is the length of its queue.
    """
    try:
        found = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _UNACKED.size)
    except OSError:  # closed, or not of TCP
        return 0
    length: int = _UNACKED.unpack(found)[0] if len(found) == _UNACKED.size else 0
    return length


class Listener:
    """Accepts connections until it is closed.

    Args:
        sock: bound and listening.
        second: another such socket; the two take turns when connections wait at both.
        beside: a descriptor that ends a wait as well, once it can be read.
        on_shortage: called when there is no descriptor for a connection; answers whether it has
            made some free. Without it, and without success, accepting pauses for a moment.

    Attributes:
        accepted_by: of two, the one that the last connection came to; the leader's to read.
    """

    def __init__(
        self,
        sock: socket.socket,
        second: socket.socket | None = None,
        *,
        beside: int | None = None,
        on_shortage: Callable[[], bool] | None = None,
    ) -> None:
        self.socket = sock
        self._on_shortage = on_shortage
        self._beside = beside
        self._is_read_beside = False
        self._second = second
        self.accepted_by: socket.socket | None = None
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._poll = select.poll()
        for each in filter(None, (sock, second)):
            each.setblocking(False)
            self._poll.register(each, select.POLLIN)
        self._pausing = select.poll()  # for everything but connections
        for poll in (self._poll, self._pausing):
            for descriptor in (self._wake, beside):
                if descriptor is not None:
                    poll.register(descriptor, select.POLLIN)
        self._closed = False
        # Held while waiting: a descriptor must not be closed, and its number given to another
        # file, under a thread that polls it; and the port is free only once nobody polls.
        self._waiting = threading.RLock()
        self._waking = threading.RLock()
        self._said_at = -_SAY_AGAIN_S
        self._resume_at = 0.0  # monotonic; no connection is accepted before

    def accept(self, timeout_s: float | None = None) -> tuple[socket.socket, Address]:
        """Wait for a connection; called by the leader only.

        Args:
            timeout_s: longest wait; None is for ever.
        Returns:
            The connection, in blocking mode, and the peer's address.
        Raises:
            NothingAcceptedError: the time is over, or what is watched beside can be read.
            ListenerClosedError: `wake` was called.
        """
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        with self._waiting:
            while not self._closed:
                found = self._accept_one(self._wait(deadline))
                if found is not None:
                    return found
                if self._is_read_beside or (deadline and time.monotonic() >= deadline):
                    raise NothingAcceptedError
        raise ListenerClosedError

    def _wait(self, deadline: float | None) -> list[int]:
        """Wait until something is ready, or the time is over: descriptors that are."""
        poll, until = self._poll, deadline
        if self._resume_at:
            poll = self._pausing
            until = self._resume_at if deadline is None else min(self._resume_at, deadline)
        left_s = None if until is None else max(0.0, until - time.monotonic())
        ready = [each for each, _ in poll.poll(None if left_s is None else left_s * 1000)]
        if self._resume_at and time.monotonic() >= self._resume_at:
            self._resume_at = 0.0
        self._is_read_beside = self._beside in ready
        return ready

    def _accept_one(self, ready: list[int]) -> tuple[socket.socket, Address] | None:
        """Accept one connection of those that are ready; None when there is none any more."""
        listening = [each for each in ready if each not in (self._wake, self._beside)]
        if self._closed or not listening:
            return None
        sock = self.socket if self._second is None else self._choose(self._second, listening)
        try:
            connection, address = sock.accept()
        except BlockingIOError:
            return None  # another process took it
        except OSError as problem:
            self._pause(problem)
            return None
        if connection.gettimeout() is not None:  # only when somebody has set a default
            connection.setblocking(True)
        return connection, address

    def _choose(self, second: socket.socket, ready: list[int]) -> socket.socket:
        """The socket where connections wait; the other than last time when they do at both."""
        last, other = self.socket, second
        if self.accepted_by is second:
            last, other = second, self.socket
        self.accepted_by = other if other.fileno() in ready else last
        return self.accepted_by

    def _pause(self, problem: OSError) -> None:
        """Something that passes: wait for it, unless the listener closes meanwhile."""
        if problem.errno not in _OUT_OF_RESOURCES:
            return  # ECONNABORTED and the like: that client is gone
        now = time.monotonic()
        if now - self._said_at >= _SAY_AGAIN_S:
            self._said_at = now
            LOGGER.error("Cannot accept connections: %s; trying again", problem.strerror)
        SHORTAGES.add()
        if self._on_shortage is None or not self._on_shortage():
            self._resume_at = now + _PAUSE_S

    def wake(self) -> None:
        """End the wait, and every later one; from any thread."""
        self._closed = True
        with self._waking:
            if self._wake >= 0:
                os.eventfd_write(self._wake, 1)

    def close(self) -> None:
        """Close all. Connections in the backlog are reset, unless other processes listen too."""
        self.wake()
        with self._waiting, self._waking:
            if self._wake >= 0:
                os.close(self._wake)
            self._wake = -1
            self.socket.close()
            if self._second is not None:
                self._second.close()
