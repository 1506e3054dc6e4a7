"""Lets a thread receive the body of a request from the socket itself, without the event loop.

Rules: only on plain connections of our own server, and only a body whose length is known. The event
loop hands its part of the body over and reads no more until the body is given back. It waits
whenever the client sends nothing. A thread waits for a client only while this is fast; what a slow
one sends gathers in the kernel for a moment, so that it keeps no thread, however it spreads its
bytes. The limits of the connection go on: they look at what the kernel has received, and at who
waits for whom.

Built on uvicorn's `HttpToolsProtocol`; `tests/unit/web/security/test_uvicorn.py` lists what of it
is used.
"""

from __future__ import annotations

import asyncio
import select
import socket
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

import httptools
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request

if TYPE_CHECKING:
    from lfscp.web.security.connection import LimitedProtocol

RECEIVED: Final = "lfscp.received_body"  # an extension of the ASGI scope
RECEIVER: Final = "receiver"  # in it
BLOCK_BYTES: Final = 512 << 10
_AT_ONCE: Final = 16 << 20  # bytes, so that others have the thread in between
_DRY_MS: Final = 5  # that a thread waits for more
_FAST: Final = 8 << 20  # bytes for a second that a thread has waited
_FEW: Final = 64 << 10  # bytes: who sends fewer at a time is slow
_GATHER_S: Final = 0.02
_CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"

Feed = Callable[[memoryview], None]


class ReceivedBody:
    """Receives the body of one request; for the event loop.

    Args:
        protocol: the connection, which has read the head of the request.

    Attributes:
        is_taken: whether the connection's parser gets no more of the body.
        is_waiting: whether it waits for the client, while it is taken.
    """

    def __init__(self, protocol: LimitedProtocol) -> None:
        self._protocol = protocol
        self._cycle = protocol.cycle
        self._left = 0  # bytes
        self._waited_s = 0.0  # by a thread, for what it receives at a time
        self.is_taken = False
        self.is_waiting = False

    async def feed_to(self, feed: Feed) -> None:
        """Have a thread receive all of the body, and hand it on in blocks.

        Args:
            feed: takes a block, which is valid during the call; called in a thread.
        Raises:
            ClientDisconnect: the body ended too early.
            Exception: what `feed` raises; the rest of the body is not received then.
        """
        if self._is_gone:
            raise ClientDisconnect
        sock = self._protocol.transport.get_extra_info("socket").dup()
        begun = self._take()
        try:
            if begun:
                await run_in_threadpool(feed, memoryview(begun))
            while self._left:
                await self._wait(sock)
                before = self._left
                await run_in_threadpool(self._receive, sock, feed)
                if self._left and before - self._left < _FEW:
                    await self._gather()
        finally:
            sock.close()
            self._give_back(self._left)

    def _take(self) -> bytes:
        """Let the connection read no more; give what has come of the body."""
        protocol, cycle = self._protocol, self._cycle
        protocol.flow.pause_reading()
        if cycle.waiting_for_100_continue:
            cycle.waiting_for_100_continue = False
            protocol.transport.write(_CONTINUE)
        self._left = protocol.of_body
        self.is_taken = bool(self._left)
        begun, cycle.body = bytes(cycle.body), bytearray()
        return begun

    def _give_back(self, left: int) -> None:
        """Let the connection read on: what is left of the body is wanted by nobody."""
        protocol = self._protocol
        protocol.of_body = left
        if self.is_taken and not left and not protocol.transport.is_closing():
            self.is_taken = False
            protocol.parser = httptools.HttpRequestParser(protocol)  # the old one waits for more
            protocol.parser.set_dangerous_leniencies(lenient_data_after_close=True)
            protocol.on_message_complete()
        protocol.flow.resume_reading()

    def pass_over(self, count: int) -> None:
        """Take note of bytes of the body that the connection has read."""
        self._give_back(self._protocol.of_body - count)

    async def _wait(self, sock: socket.socket) -> None:
        """Wait until the client has sent something, or is gone."""
        event, loop = self._cycle.message_event, self._protocol.loop
        event.clear()
        if self._is_gone:
            raise ClientDisconnect
        self.is_waiting = True
        loop.add_reader(sock, event.set)
        try:
            await event.wait()
        finally:
            loop.remove_reader(sock)
            self.is_waiting = False

    async def _gather(self) -> None:
        """Leave what a slow client sends to the kernel: each turn of a thread has its price."""
        self.is_waiting = True
        try:
            await asyncio.sleep(_GATHER_S)
        finally:
            self.is_waiting = False

    def _receive(self, sock: socket.socket, feed: Feed) -> None:
        """Receive until the client sends no more for a moment, or little; for a thread."""
        poller = select.poll()
        poller.register(sock, select.POLLIN)
        place = memoryview(bytearray(min(self._left, BLOCK_BYTES)))
        begun, self._waited_s = self._left, 0.0
        most = begun - min(begun, _AT_ONCE)
        while self._left > most:
            block = place[: self._left]
            count = self._fill(block, sock, poller, begun - self._left)
            if not count:
                return
            self._left -= count
            feed(block[:count])

    def _fill(
        self, block: memoryview, sock: socket.socket, poller: select.poll, before: int
    ) -> int:
        """Receive up to a block; what came before the client went counts.

        Args:
            before: bytes that the thread has received already.
        Raises:
            ClientDisconnect: the client is gone.
        """
        filled = 0
        while filled < len(block) and self._has_more(poller, before + filled):
            count = 0 if self._is_gone else _receive_into(sock, block[filled:])
            if count == 0 and not filled:
                raise ClientDisconnect
            if count <= 0:
                break
            filled += count
        return filled

    def _has_more(self, poller: select.poll, received: int) -> bool:
        """Whether the client has sent more; what has come decides how long a thread waits."""
        if self._waited_s > _DRY_MS / 1000 + received / _FAST:
            return bool(poller.poll(0))
        self.is_waiting, begun = True, time.monotonic()
        try:
            return bool(poller.poll(_DRY_MS))
        finally:
            self.is_waiting = False
            self._waited_s += time.monotonic() - begun

    @property
    def _is_gone(self) -> bool:
        return self._cycle.disconnected or self._protocol.transport.is_closing()


def _receive_into(sock: socket.socket, place: memoryview) -> int:
    """Receive what is there: 0 at the end, and -1 when nothing is."""
    try:
        return sock.recv_into(place)
    except BlockingIOError:
        return -1
    except OSError:
        return 0


def received_body(request: Request) -> ReceivedBody | None:
    """What receives the body of a request in a thread; None if nothing can."""
    extension = request.scope.get("extensions", {}).get(RECEIVED)
    return extension[RECEIVER] if extension else None
