"""Connects to an HTTP server for httpcore: with limits of silence and pace, and a way to stop.

Rules: no call waits longer than a quarter of a second without looking whether somebody wants to
stop, and each looks once, since one that floods us lets nobody wait. A server may be silent for as
long as a limit says; one that sends or takes a few bytes at a time, to stay below it, is cut off as
well. So is one that sends head after head (100 Continue) and no answer.
"""

from __future__ import annotations

import select
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, Final, TypeVar

import httpcore2

from lfscp.upperlayer.connection.connecting import connect, secure

LOOK_EVERY_S: Final = 0.25
MIN_BYTES_PER_S: Final = 100  # of what lasts longer than the limit of silence
MAX_HEADS_BYTES: Final = 1 << 20  # that come before the answer; httpcore limits one to 100 kB
_Made = TypeVar("_Made")
_Look = Callable[[], None]
_Address = tuple[socket.AddressFamily, Any]


class Backend(httpcore2.NetworkBackend):
    """Makes the connections of one session.

    Args:
        look: called several times a second while a server is waited for; ends that by raising.

    Attributes:
        awaits_head: whether the head of an answer is waited for, and not its body.
    """

    def __init__(self, look: _Look) -> None:
        self._look = look
        self.awaits_head = False

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,  # noqa: ARG002 - httpcore's signature
        socket_options: Iterable[Any] | None = None,  # noqa: ARG002 - as above
    ) -> Stream:
        """Connect to the first address of the host that takes a connection.

        Raises:
            OSError: there is none; TimeoutError after `timeout` seconds with one of them.
        """
        refusal: OSError | None = None
        for family, address in _resolved(host, port, self._look, timeout):
            sock = socket.socket(family, socket.SOCK_STREAM)
            try:
                connect(sock, address, self._waiting(timeout))
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            except OSError as error:
                sock.close()
                refusal = error
            except BaseException:
                sock.close()
                raise
            else:
                return Stream(sock, self)
        raise refusal or OSError("the host has no address")

    def _waiting(self, timeout: float | None) -> Callable[[socket.socket, int], None]:
        return _waiting(self._look, timeout)

    def look(self) -> None:
        """See whether somebody wants to stop; raises if so."""
        self._look()


class Stream(httpcore2.NetworkStream):
    """One connection; its socket does not block."""

    def __init__(self, sock: socket.socket, backend: Backend) -> None:
        self._sock = sock
        self._backend = backend
        self._look = backend.look
        self._reading = _Pace()
        self._writing = _Pace()

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        """The next bytes; none at the end.

        Raises:
            httpcore2.ReadTimeout: nothing, or too little, came in time.
            httpcore2.ReadError: the connection broke.
            httpcore2.RemoteProtocolError: there are heads without end, and no answer.
        """
        self._look()
        if self._backend.awaits_head and self._reading.bytes > MAX_HEADS_BYTES:
            raise httpcore2.RemoteProtocolError("heads without end")
        try:
            data = self._retry(partial(self._sock.recv, max_bytes), self._reading, timeout)
        except TimeoutError as error:
            raise httpcore2.ReadTimeout(str(error)) from None
        except OSError as error:
            raise httpcore2.ReadError(words_of(error)) from None
        self._reading.bytes += len(data)
        return data

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        """Send all of it.

        Raises:
            httpcore2.WriteTimeout: the server took nothing, or too little, in time.
            httpcore2.WriteError: the connection broke, or the server answers already and takes no
                more; httpcore reads the answer then.
        """
        self._reading = _Pace()  # what comes next is another answer
        rest = memoryview(buffer)
        try:
            while rest:
                self._look()
                sent = self._retry(partial(self._sock.send, rest), self._writing, timeout)
                self._writing.bytes += sent
                rest = rest[sent:]
        except TimeoutError as error:
            raise httpcore2.WriteTimeout(str(error)) from None
        except OSError as error:
            raise httpcore2.WriteError(words_of(error)) from None

    def close(self) -> None:
        """Close at once: what is on its way is lost."""
        self._sock.close()

    def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,
    ) -> Stream:
        """Do TLS from here on.

        Raises:
            OSError: the server does none, or its certificate is not trusted.
        """
        secured = secure(self._sock, (ssl_context, server_hostname), _waiting(self._look, timeout))
        return Stream(secured, self._backend)

    def get_extra_info(self, info: str) -> Any:
        """What httpcore asks of a connection that rests: whether the server has closed it."""
        if info == "is_readable":
            return bool(_poll(self._sock, select.POLLIN).poll(0))
        if info == "ssl_object" and isinstance(self._sock, ssl.SSLSocket):
            return self._sock
        return None

    def _retry(self, act: Callable[[], _Made], pace: _Pace, timeout: float | None) -> _Made:
        """Call until the socket is ready for it."""
        limit = _waiting(self._look, timeout)
        while True:
            try:
                return act()
            except ssl.SSLWantReadError:
                events = select.POLLIN
            except ssl.SSLWantWriteError:
                events = select.POLLOUT
            except BlockingIOError:
                # While it does not take what we send, an answer may come, as 401 or 413.
                events = select.POLLIN | (select.POLLOUT if pace is self._writing else 0)
            with pace.waiting(timeout):
                limit(self._sock, events)
            if events & select.POLLIN and events & select.POLLOUT:
                self._require_room()

    def _require_room(self) -> None:
        if not _poll(self._sock, select.POLLOUT).poll(0):
            raise OSError(0, "the server answers before it has the whole request")


def words_of(error: OSError) -> str:
    """What went wrong, without the names that OpenSSL and Python have for it."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not trusted: {error.verify_message}"
    if isinstance(error, ssl.SSLError) and error.reason == "WRONG_VERSION_NUMBER":
        return "it does not speak TLS at this port"  # so OpenSSL calls an answer in plain text
    if isinstance(error, ssl.SSLError):
        return f"TLS failed: {(error.reason or 'it broke').replace('_', ' ').lower()}"
    return error.strerror or str(error) or "it broke"


class _Pace:
    """How much came, or went, in the time spent waiting for it."""

    def __init__(self) -> None:
        self.bytes = 0
        self._waited_s = 0.0
        self._since = 0.0

    def waiting(self, timeout: float | None) -> _Pace:
        """A wait that counts.

        Raises:
            TimeoutError: so far it was too slow.
        """
        is_slow = self.bytes < self._waited_s * MIN_BYTES_PER_S
        if timeout is not None and self._waited_s > timeout and is_slow:
            raise TimeoutError
        return self

    def __enter__(self) -> None:
        self._since = time.monotonic()

    def __exit__(self, *_error: object) -> None:
        self._waited_s += time.monotonic() - self._since


def _waiting(look: _Look, timeout: float | None) -> Callable[[socket.socket, int], None]:
    """Waits until a socket is ready; TimeoutError after `timeout` seconds from now, all in all."""
    ends = float("inf") if timeout is None else time.monotonic() + timeout

    def wait(sock: socket.socket, events: int) -> None:
        poll = _poll(sock, events)
        while True:
            look()
            left = ends - time.monotonic()
            if poll.poll(max(0.0, min(LOOK_EVERY_S, left)) * 1000):
                return
            if left <= 0:
                raise TimeoutError

    return wait


def _poll(sock: socket.socket, events: int) -> select.poll:
    poll = select.poll()
    poll.register(sock, events)
    return poll


def _resolved(host: str, port: int, look: _Look, timeout: float | None) -> list[_Address]:
    """The addresses of a host, asked for by a thread: the system's resolver cannot be stopped."""
    answers: list[list[_Address] | OSError] = []
    is_there = threading.Event()

    def ask() -> None:
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
            answers.append([(family, address) for family, _, _, _, address in found])
        except UnicodeError:  # a name that no server can have, such as one with an empty label
            answers.append(OSError(0, "its name is no host name"))
        except OSError as error:
            answers.append(error)
        is_there.set()

    threading.Thread(target=ask, name="resolver", daemon=True).start()
    ends = float("inf") if timeout is None else time.monotonic() + timeout
    while not is_there.wait(LOOK_EVERY_S):
        look()
        if time.monotonic() > ends:
            raise TimeoutError
    answer = answers[0]
    if isinstance(answer, OSError):
        raise answer
    return answer
