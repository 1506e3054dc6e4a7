"""The life of an association's connection: TCP, then TLS, and its end.

TCP_NODELAY is always on: DCMTK's clients leave Nagle's algorithm on, and whoever waits for the
other would wait for 40 ms. Another thread may end a read or a send.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import select
import socket
import ssl
import time
from functools import partial
from typing import Final, cast

from pynetdicom import evt
from pynetdicom.association import Association
from pynetdicom.transport import T_CONNECT, AddressInformation

from lfscp.upperlayer.connection.buffered import BufferedSocket
from lfscp.upperlayer.connection.connecting import connect, secure
from lfscp.upperlayer.connection.errors import (
    CalledOffError,
    ConnectionLostError,
    ReadTimeoutError,
)
from lfscp.upperlayer.connection.record import ConnectionRecord
from lfscp.upperlayer.connection.socket_calls import drop_received, timeval
from lfscp.upperlayer.connection.tls import TLSSocket, adopt

LOGGER = logging.getLogger(__name__)

_ESTABLISHED: Final = 1  # the first byte of struct tcp_info, as long as the peer has not closed
_LOOK_AGAIN_S: Final = 0.005
_ABORTED_CLOSE_WAIT_S: Final = 1.0  # for the peer to close when another thread has aborted


class InlineSocket(BufferedSocket):
    """The socket of an association, from its connection to its close; see `BufferedSocket`.

    Attributes:
        is_woken: another thread has ended its reads.
        connect_error: why a requestor could not connect.
    """

    def __init__(
        self,
        assoc: Association,
        record: ConnectionRecord,
        client_socket: socket.socket | None = None,
        address: AddressInformation | None = None,
    ) -> None:
        super().__init__(assoc, record, client_socket, address)
        self.is_woken = False
        self.connect_error: OSError | None = None
        if client_socket is not None:
            self._configure(client_socket)

    def _configure(self, sock: socket.socket) -> None:
        self._look_at = time.monotonic() + self.look_every_s
        self._is_tls = isinstance(sock, ssl.SSLSocket)
        if isinstance(sock, ssl.SSLSocket):
            self.socket = adopt(sock, self._record.network_timeout_s)
        elif sock.gettimeout() is not None:  # as of one that has connected
            sock.settimeout(None)
        try:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except OSError:
            self._quick_ack = False  # not TCP: a Unix socket, or already gone
        self._set_send_limit(sock)

    def _set_send_limit(self, sock: socket.socket) -> None:
        limit_s = self._record.network_timeout_s
        if limit_s is not None:
            limit_s /= 2  # so that what was taken is known in between
        if self.while_waiting is not None:
            limit_s = self.look_every_s if limit_s is None else min(self.look_every_s, limit_s)
            if isinstance(sock, TLSSocket):
                sock.send_limit_s = limit_s
        try:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, timeval(limit_s))
        except OSError:
            return  # gone: the next read or send says so

    def wrap_tls(self, context: ssl.SSLContext, timeout_s: float | None) -> None:
        """Do the server's side of a TLS handshake, within a deadline.

        Raises:
            OSError: the handshake failed or took too long (ssl.SSLError, TimeoutError).
        """
        if self.socket is None:
            raise ConnectionResetError("closed before the TLS handshake")
        self.socket.settimeout(timeout_s)
        self.socket = context.wrap_socket(
            self.socket, server_side=True, do_handshake_on_connect=False
        )
        self.socket.do_handshake()
        self._configure(self.socket)

    def connect(self, primitive: T_CONNECT) -> None:
        """Connect as a requestor; `while_waiting` is called meanwhile, about once a second.

        The outcome goes to the state machine: a T_CONNECT with Evt2 confirms it, or the event
        Evt17 (PS3.8 section 9.2).
        """
        try:
            self._connect(primitive.address_info.as_tuple)
        except OSError as problem:
            self.connect_error = problem
            LOGGER.debug("Unable to connect: %s", problem)
            self._shutdown_socket()
            self.socket = None
            # Not as a T_CONNECT: the action for Evt17 leaves it in the queue, to come for ever.
            self.event_queue.put("Evt17")
        else:
            local = cast(socket.socket, self.socket).getsockname()
            self.assoc.requestor.address_info = AddressInformation.from_tuple(local)
            self._is_connected = True
            evt.trigger(self.assoc, evt.EVT_CONN_OPEN, {"address": primitive.address_info.as_tuple})
            primitive.result = "Evt2"
            self.provider_queue.put(primitive)
        finally:
            self._ready.set()  # ACSE waits for it before it looks for the answer

    def _shutdown_socket(self) -> None:
        # pynetdicom's leaves a socket open when its connection never was, or is gone already.
        sock = self.socket
        if sock is None:
            return
        with contextlib.suppress(OSError):
            sock.shutdown(socket.SHUT_RDWR)
        with contextlib.suppress(OSError):
            sock.close()

    def shut(self) -> None:
        """Close the connection; the state machine is not told."""
        self._shutdown_socket()
        self.socket = None
        self._is_connected = False

    def _connect(self, address: tuple[str, int] | tuple[str, int, int, int]) -> None:
        timeout_s = self.assoc.connection_timeout
        deadline = float("inf") if timeout_s is None else time.monotonic() + timeout_s
        sock = cast(socket.socket, self.socket)
        wait = partial(self._await, deadline)
        connect(sock, address, wait)
        if self.tls_args:
            self.socket = sock = secure(sock, self.tls_args, wait)
        self._configure(sock)

    def _await(self, deadline: float, sock: socket.socket, events: int) -> None:
        """Wait until the socket that connects is ready for something.

        Raises:
            OSError: it is not in time (TimeoutError), or the wait was called off.
        """
        poller = select.poll()
        poller.register(sock, events)
        while (left := deadline - time.monotonic()) > 0:
            if poller.poll(1000 * min(self.look_every_s, left)):
                return
            if self.while_waiting is not None:
                try:
                    self.while_waiting()
                except CalledOffError as problem:
                    raise OSError(errno.ECANCELED, str(problem)) from problem
        raise TimeoutError(f"no connection within {self.assoc.connection_timeout} s")

    # --- the end ---

    def drain(self, seconds: float) -> None:
        """Read and drop what still comes, until the peer closes or the time is over."""
        self._start = self._end = 0
        deadline = time.monotonic() + seconds
        self.while_waiting = None
        if self.is_woken:
            self._await_close(min(deadline, time.monotonic() + _ABORTED_CLOSE_WAIT_S))
            return
        try:
            while (left := deadline - time.monotonic()) > 0:
                self.begin_wait(left)
                self._receive(self._view)
        except (ConnectionLostError, ReadTimeoutError):
            return

    def _await_close(self, deadline: float) -> None:
        """The same on a socket shut down for reading, which blocks no more: look now and then."""
        sock = self.socket
        try:
            while sock is not None and time.monotonic() < deadline:
                # What came is dropped undecrypted: a close with it unread would be a reset, which
                # might overtake the A-ABORT.
                drop_received(sock, self._view)
                if sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] != _ESTABLISHED:
                    return
                time.sleep(_LOOK_AGAIN_S)
        except OSError:
            return  # reset, or no TCP

    def wake_reader(self) -> None:
        """End a read that another thread is blocked in."""
        sock = self.socket
        if sock is not None:
            self.is_woken = True
            try:
                # TLS: socket.socket's own shutdown, SSLSocket's would drop the session's state.
                socket.socket.shutdown(sock, socket.SHUT_RD)
            except OSError:
                return  # not connected any more: nobody is blocked in it

    def takes_more(self) -> bool:
        """Whether a few bytes can be sent without waiting for the peer."""
        sock = self.socket
        if sock is None:
            return False
        poller = select.poll()
        try:
            poller.register(sock, select.POLLOUT)
        except (OSError, ValueError):
            return False
        return bool(poller.poll(0))

    def cut_off(self) -> None:
        """End reads and sends that other threads are blocked in, without a word to the peer."""
        sock = self.socket
        if sock is not None:
            self.is_woken = True
            with contextlib.suppress(OSError):  # not connected any more
                socket.socket.shutdown(sock, socket.SHUT_RDWR)
