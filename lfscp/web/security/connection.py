"""Adds limits to uvicorn's HTTP/1.1 connection: waiting time, slowest pace, size of the head.

Rules: a connection waits for the head of a request, the first or the next one, for `timeout_s` at
most. While a body comes or an answer goes, the kernel counts the bytes: if the node waits for a
client that is slower than `min_rate` over `timeout_s`, it closes the connection; a gigabyte over a
slow line passes. A head has 16 kB at most, also if more comes in one piece with it: bytes that
follow a request are held back until it is answered: the parser gets the bytes up to the next empty
line, behind which another request may begin, or those of a body whose length is known. The rest of
a body whose request is answered is read for a short time only. Chunks of a body may have some bytes
around them, and not any number. While the server stops, requests have some seconds to end.

Source: RFC 9112. Built on uvicorn's `HttpToolsProtocol`; `tests/unit/web/security/test_uvicorn.py`
lists what of it is used.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from typing import TYPE_CHECKING, Any, Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.protocols.utils import get_remote_addr

from lfscp.web.security.pace import Progress
from lfscp.web.security.received_bodies import RECEIVED, RECEIVER, ReceivedBody
from lfscp.web.security.refusals import note_refusal, unavailable
from lfscp.web.security.request_heads import authority_of, length_of_body, without_upgrade
from lfscp.web.security.sent_files import EXTENSION, SENDER, SentFiles

if TYPE_CHECKING:
    from uvicorn.config import Config
    from uvicorn.server import ServerState

    from lfscp.web.security.connection_limits import ConnectionLimits

MAX_HEAD_BYTES: Final = 16 << 10
MAX_AROUND_CHUNKS: Final = 16 << 10  # bytes, and so many for each byte of the body:
_AROUND_A_BYTE: Final = 16
LINGER_S: Final = 2.0  # for the rest of a request that is answered
SILENT_S: Final = 3.0  # of a client that the node waits for while the server stops
LAST_S: Final = 6.0  # for requests while the server stops, which has 10 seconds
PARTING_S: Final = 0.5  # for a refused client to read the answer
_SOON_S: Final = 0.01
_EMPTY_LINE: Final = b"\r\n\r\n"
_FIRST: Final = frozenset(b"\r\nABCDEFGHIJKLMNOPQRSTUVWXYZ")  # bytes of a head; methods are capital
_IDLE: Final = "idle"  # a reason that is not reported
_FULL: Final = unavailable("too many connections are open; try again later")
_STOPPING: Final = unavailable("the node is stopping; try again later")
_NO_REQUEST: Final = "this is not an HTTP/1.1 request, or its head is longer than 16 kB"


class LimitedProtocol(HttpToolsProtocol):
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
        self._unread = b""  # half a head, or bytes after a request that is not answered yet
        self._before_head = 0  # bytes, of empty lines
        self._in_body = False  # which has not come whole
        self._last = b""  # of chunks: bytes in which an empty line may begin
        self.of_body = 0  # bytes that must still come, if the request says how many
        self._received: ReceivedBody | None = None  # which a thread may receive
        self._around_chunks = 0  # bytes
        self.waits_since = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._seen = Progress()

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
        """Answer that there is no place, and throw away what the client has sent."""
        if self._limits.is_time_to_part:
            self._part(_FULL)
        else:
            self.transport.write(_FULL)
            self.transport.close()

    def _part(self, answer: bytes) -> None:
        """Answer, and close a moment later.

        If the node closed at once with bytes unread, the kernel would drop the answer.
        """
        self.transport.write(answer)
        self.transport.write_eof()
        self._timer = self.loop.call_later(PARTING_S, self.transport.abort)

    def leave(self) -> None:
        """Close at once, to make room for another connection."""
        self.transport.abort()

    # Receiving

    def data_received(self, data: bytes) -> None:
        """Take the bytes a piece at a time, so that no head is longer than allowed."""
        if self._is_admitted:
            self._unread = self._unread + data if self._unread else data
            self._read_on()

    def _read_on(self) -> None:
        unread, at = self._unread, 0
        while at < len(unread) and not self.transport.is_closing():
            if self._is_answering:
                self.flow.pause_reading()
                break
            size = self.of_body or self._up_to_empty_line(unread, at)
            if not size:
                break
            self._read(unread[at : at + size])
            at += size
        self._unread = unread[at:]

    def _up_to_empty_line(self, unread: bytes, at: int) -> int:
        """How many bytes the parser may have of chunks, or of a head; 0 until it has come whole."""
        if self._in_body:
            return _of_chunks(self._last, unread, at)
        most = MAX_HEAD_BYTES - self._before_head
        found = unread.find(_EMPTY_LINE, at, at + most)
        if found >= 0:
            return found + len(_EMPTY_LINE) - at
        if len(unread) - at >= most or unread[at] not in _FIRST:
            self.send_400_response("")
        return 0

    def _read(self, piece: bytes) -> None:
        if self._received is not None and self._received.is_taken:
            self._received.pass_over(len(piece))
            return
        if self.of_body:
            self.of_body = max(0, self.of_body - len(piece))
        elif self._in_body:
            self._last = piece[1 - len(_EMPTY_LINE) :]
            self._around_chunks += len(piece)
        else:
            self._before_head += len(piece)
            piece = without_upgrade(piece)
        super().data_received(piece)
        if self._around_chunks > MAX_AROUND_CHUNKS:
            self.send_400_response("")

    @property
    def _is_answering(self) -> bool:
        """Whether a whole request has come, and its answer is not complete."""
        return not self._in_body and not self._is_waiting

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header; not one behind the body, which nobody asks for."""
        if not self._in_body:
            super().on_header(name, value.rstrip(b" \t"))

    def on_headers_complete(self) -> None:
        """Hand the request on, and note that the connection has one."""
        version, method = self.parser.get_http_version(), self.parser.get_method()
        length = length_of_body(version, method, self.url, self.headers)
        authority = authority_of(self.url)
        if authority is not None:
            self.headers[:] = [each for each in self.headers if each[0] != b"host"]
            self.headers.append((b"host", authority))
        super().on_headers_complete()
        if self.scheme == "http":
            self._received = ReceivedBody(self) if length else None
            self.scope["extensions"] = {
                EXTENSION: {SENDER: SentFiles(self.cycle)},
                RECEIVED: {RECEIVER: self._received},
            }
        self._before_head = self._around_chunks = 0
        self._in_body, self.of_body, self._last = True, length or 0, b""
        self._limits.serve(self)
        self._seen = self._progress(self.loop.time())

    def on_body(self, body: bytes) -> None:
        """Hand a part of the body on."""
        self._around_chunks -= (1 + _AROUND_A_BYTE) * len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        """Note that the request has come whole."""
        self._in_body = False
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """Wait for the next request; for the rest of this one only a short time."""
        self.waits_since = self.loop.time()
        self._limits.wait(self)
        super().on_response_complete()
        self._read_on()
        if self._is_waiting and self._in_body:
            self.loop.call_later(LINGER_S, self._end_linger, self.cycle)

    def _end_linger(self, cycle: object) -> None:
        if self.cycle is cycle and self._in_body:
            self.transport.close()

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002 - uvicorn's says nothing
        """Answer a request that is not HTTP, or too long, also in the middle of a body."""
        if self.transport.is_closing():  # it is refused already
            return
        note_refusal("bad_request", self.address)
        if self._is_waiting and self._in_body:  # the request is answered already
            self.transport.abort()
            return
        if not self._is_waiting:
            self.cycle.disconnected = True
            self.cycle.message_event.set()
            if self.cycle.response_started:
                self.transport.abort()
                return
        super().send_400_response(_NO_REQUEST)

    # Time limits

    def shutdown(self) -> None:
        """Finish the request that is served, unless its client falls silent or it takes long."""
        super().shutdown()
        if self._is_admitted:
            self._end_silent(None)
            self.loop.call_later(LAST_S, self._end_last)

    def _end_last(self) -> None:
        """Answer the request that is still served with 503; break off one that is answered."""
        if self._is_waiting or self.transport.is_closing():
            return
        note_refusal("stopping", self.address)
        if self.cycle.response_started:
            self.transport.abort()
            return
        self.cycle.disconnected = True
        self.cycle.message_event.set()
        if self._timer is not None:
            self._timer.cancel()
        self._part(_STOPPING)

    def _end_silent(self, seen: Progress | None) -> None:
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
                has_begun = self._seen.wants_body or self._unread
                reason = "slow_request" if has_begun else _IDLE
        elif self._is_waiting:
            self.waits_since = now  # the answer is still on its way
        if reason:
            if reason != _IDLE:
                note_refusal(reason, self.address)
            self.transport.abort()
            return
        self._timer = self.loop.call_later(max(delay_s, _SOON_S), self._look)

    def _progress(self, now: float) -> Progress:
        received = self._received
        is_taken = received is not None and received.is_taken
        waits = received.is_waiting if received and is_taken else not self.flow.read_paused
        wants_body = self._in_body and waits
        return Progress.of(self.transport, now, wants_body=wants_body)


def _of_chunks(before: bytes, unread: bytes, at: int) -> int:
    """Bytes up to the end of the next empty line, which may have begun before; else all."""
    for begun in range(len(before), 0, -1):
        begin, rest = _EMPTY_LINE[:begun], _EMPTY_LINE[begun:]
        if before.endswith(begin) and unread.startswith(rest, at):
            return len(rest)
    found = unread.find(_EMPTY_LINE, at)
    return (len(unread) if found < 0 else found + len(_EMPTY_LINE)) - at


def _send_at_once(sock: socket.socket) -> None:
    """Switch Nagle's algorithm off, else the end of an answer may wait 40 ms for the client.

    asyncio does not: it leaves sockets alone whose protocol number is 0, as an accepted one's is.
    """
    with contextlib.suppress(OSError):  # the client is gone already
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
