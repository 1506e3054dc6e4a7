"""Adds limits to uvicorn's HTTP/1.1 connection: waiting time, slowest pace, size of the head.

Rules: a connection waits for the head of a request, the first or the next one, for `timeout_s` at
most. While a body comes or an answer goes, the kernel counts the bytes: if the node waits for a
client that is slower than `min_rate` over `timeout_s`, it closes the connection; a gigabyte over a
slow line passes. A head has 16 kB at most, also if more comes in one piece with it: bytes that
follow a request are held back until it is answered. The rest of a body whose request is answered is
read for a short time only.

Source: RFC 9112. Built on uvicorn's `H11Protocol`: its `data_received`, `handle_events`,
`on_response_complete`, `shutdown` and `send_400_response`.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.protocols.utils import get_remote_addr

from lfscp.web.security.refusals import note_refusal

if TYPE_CHECKING:
    from uvicorn.config import Config
    from uvicorn.server import ServerState

    from lfscp.web.security.connection_limits import ConnectionLimits

MAX_HEAD_BYTES: Final = 16 << 10
LINGER_S: Final = 2.0  # for the rest of a request that is answered
SILENT_S: Final = 3.0  # of a client that the node waits for while the server stops
PARTING_S: Final = 0.5  # for a refused client to read the answer
_SOON_S: Final = 0.01
_IDLE: Final = "idle"  # a reason that is not reported
_RETRY_S: Final = 5
_FULL: Final = (
    b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: %d\r\nConnection: close\r\n"
    b"Content-Type: text/plain; charset=utf-8\r\nContent-Length: 47\r\n\r\n"
    b"too many connections are open; try again later\n"
) % _RETRY_S
_NO_REQUEST: Final = "this is not an HTTP/1.1 request, or its head is longer than 16 kB"
_TCP_INFO_BYTES: Final = 136  # of linux/tcp.h, as far as the next two
_ACKNOWLEDGED_AT: Final = 120  # tcpi_bytes_acked, then tcpi_bytes_received


class LimitedProtocol(H11Protocol):
    """One connection; runs in the event loop's thread.

    Args:
        limits: shared by all connections of the server.
    """

    def __init__(
        self,
        limits: ConnectionLimits,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self.address = ""
        self._limits = limits
        self._is_admitted = False
        self._unread = memoryview(b"")  # bytes after a request that is not answered yet
        self._of_body = 0  # bytes that must still come, if the request says how many
        self.waits_since = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._seen = _Progress()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take a place, or refuse the client."""
        self.transport = transport
        peer = get_remote_addr(transport)
        self.address = peer[0] if peer else ""
        _send_at_once(transport.get_extra_info("socket"))
        self.waits_since = self.loop.time()
        if not self._limits.enter(self):
            self._refuse()
            return
        self._is_admitted = True
        super().connection_made(transport)
        self._timer = self.loop.call_later(self._limits.timeout_s, self._look)

    def connection_lost(self, exc: Exception | None) -> None:
        """Give the place back."""
        if self._timer is not None:
            self._timer.cancel()
        self._limits.leave(self)
        if self._is_admitted:
            super().connection_lost(exc)

    def _refuse(self) -> None:
        """Answer that there is no place, and throw away what the client has sent.

        If the node closed at once with bytes unread, the kernel would drop the answer.
        """
        self.transport.write(_FULL)
        if self._limits.is_time_to_part:
            self.transport.write_eof()
            self._timer = self.loop.call_later(PARTING_S, self.transport.abort)
        else:
            self.transport.close()

    def leave(self) -> None:
        """Close at once, to make room for another connection."""
        self.transport.abort()

    # Receiving

    def data_received(self, data: bytes) -> None:
        """Take the bytes a piece at a time, so that no head is longer than allowed."""
        if self._is_admitted:
            self._unread = memoryview(bytes(self._unread) + data if self._unread else data)
            self._read_on()

    def _read_on(self) -> None:
        while self._unread and not self.transport.is_closing():
            if self._is_answering:
                self.flow.pause_reading()
                return
            size = self._of_body or MAX_HEAD_BYTES
            piece, self._unread = self._unread[:size], self._unread[size:]
            self._of_body = max(0, self._of_body - len(piece))
            super().data_received(bytes(piece))

    @property
    def _is_answering(self) -> bool:
        """Whether a whole request has come, and its answer is not complete."""
        return self.conn.their_state in (h11.DONE, h11.MUST_CLOSE) and not self._is_waiting

    def handle_events(self) -> None:
        """Hand requests and bodies on, and note that the connection has a request."""
        before = self.cycle
        super().handle_events()
        if self.cycle is not before:
            self._of_body = self._rest_of_body()
            self._limits.serve(self)
            self._seen = self._progress(self.loop.time())

    def _rest_of_body(self) -> int:
        """Bytes of the body that have not come with the head; 0 if the request does not say."""
        if self.conn.their_state is not h11.SEND_BODY:
            return 0
        stated = [value for name, value in self.headers if name == b"content-length"]
        is_chunked = any(name == b"transfer-encoding" for name, _ in self.headers)
        # uvicorn has put what came with the head into the cycle, and nobody has read it yet.
        return 0 if is_chunked or not stated else int(stated[0]) - len(self.cycle.body)

    def on_response_complete(self) -> None:
        """Wait for the next request; for the rest of this one only a short time."""
        self.waits_since = self.loop.time()
        self._limits.wait(self)
        super().on_response_complete()
        self._read_on()
        if self._is_waiting and self.conn.their_state is h11.SEND_BODY:
            self.loop.call_later(LINGER_S, self._end_linger, self.cycle)

    def _end_linger(self, cycle: object) -> None:
        if self.cycle is cycle and self.conn.their_state is h11.SEND_BODY:
            self.transport.close()

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002 - uvicorn's says nothing
        """Answer a request that is not HTTP, or too long, also in the middle of a body."""
        note_refusal("bad_request", self.address)
        if not self._is_waiting:
            self.cycle.disconnected = True
            self.cycle.message_event.set()
            if self.cycle.response_started:
                self.transport.abort()
                return
        try:
            super().send_400_response(_NO_REQUEST)
        except h11.LocalProtocolError:  # too late for an answer
            self.transport.abort()

    # Time limits

    def shutdown(self) -> None:
        """Finish the request that is served, unless its client falls silent."""
        super().shutdown()
        if self._is_admitted:
            self._end_silent(None)

    def _end_silent(self, seen: _Progress | None) -> None:
        """Close the connection if the node waits for the client and nothing has come since."""
        now = self._progress(self.loop.time())
        if self.transport.is_closing() and not now.unsent:
            return
        if seen is not None and now.has_stood_still_since(seen):
            note_refusal("slow_request" if now.wants_body else "slow_reader", self.address)
            self.transport.abort()
            return
        self.loop.call_later(SILENT_S, self._end_silent, now)

    @property
    def _is_waiting(self) -> bool:
        return self.cycle is None or self.cycle.response_complete

    def _look(self) -> None:
        """Close the connection if it takes too long, or look again later."""
        now, timeout_s = self.loop.time(), self._limits.timeout_s
        seen, self._seen = self._seen, self._progress(now)
        reason = self._seen.too_slow_since(seen, self._limits.min_rate)
        delay_s = timeout_s
        if self._is_waiting and not self._seen.unsent:
            delay_s = self.waits_since + timeout_s - now
            if delay_s <= 0:
                has_begun = self._seen.wants_body or self.conn.trailing_data[0]
                reason = "slow_request" if has_begun else _IDLE
        elif self._is_waiting:
            self.waits_since = now  # the answer is still on its way
        if reason:
            if reason != _IDLE:
                note_refusal(reason, self.address)
            self.transport.abort()
            return
        self._timer = self.loop.call_later(max(delay_s, _SOON_S), self._look)

    def _progress(self, now: float) -> _Progress:
        acknowledged, received = _counts(self.transport.get_extra_info("socket"))
        unsent = self.transport.get_write_buffer_size()
        wants_body = self.conn.their_state is h11.SEND_BODY and not self.flow.read_paused
        return _Progress(now, acknowledged, received, unsent, wants_body)


@dataclass(frozen=True, slots=True)
class _Progress:
    """The progress of a connection at one time.

    Args:
        acknowledged: bytes that the client has received.
        received: bytes that the client has sent.
        unsent: bytes that the kernel does not take, since the client does not.
        wants_body: whether the node waits for more of a request's body.
    """

    at: float = 0.0
    acknowledged: int = 0
    received: int = 0
    unsent: int = 0
    wants_body: bool = False

    def too_slow_since(self, before: _Progress, min_rate: int) -> str:
        """Why the client is too slow; "" if it is not, or if it is not the client's turn."""
        needed = min_rate * (self.at - before.at)
        if before.unsent and self.unsent:
            return "slow_reader" if self.acknowledged - before.acknowledged < needed else ""
        if before.wants_body and self.wants_body:
            return "slow_request" if self.received - before.received < needed else ""
        return ""

    def has_stood_still_since(self, before: _Progress) -> bool:
        """Whether it is the client's turn, and it did nothing."""
        if self.unsent and before.unsent:
            return self.acknowledged == before.acknowledged
        return self.wants_body and before.wants_body and self.received == before.received


def _send_at_once(sock: socket.socket) -> None:
    """Switch Nagle's algorithm off, else the end of an answer may wait 40 ms for the client.

    asyncio does not: it leaves sockets alone whose protocol number is 0, as an accepted one's is.
    """
    with contextlib.suppress(OSError):  # the client is gone already
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def _counts(sock: socket.socket) -> tuple[int, int]:
    """Bytes that the peer has acknowledged and sent, by the kernel's count."""
    try:
        info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO_BYTES)
        acknowledged, received = struct.unpack_from("=QQ", info, _ACKNOWLEDGED_AT)
    except (OSError, struct.error):  # it is closed
        return 0, 0
    return acknowledged, received
