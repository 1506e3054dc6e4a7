"""Reads of an association's socket, by the thread that calls: no polling, no queue.

Rules: a read blocks in the kernel, with SO_RCVTIMEO as its time limit; small PDUs are read several
at a time into one buffer, large fragments straight into their destination. TCP_QUICKACK is set
before each read that follows another with no answer in between: DCMTK's clients leave Nagle's
algorithm on, and every message would cost 40 ms; an answer acknowledges by itself. Errors become
`ConnectionLostError` or `ReadTimeoutError`.
"""

from __future__ import annotations

import os
import select
import socket
import ssl
import struct
import time
from collections.abc import Callable
from typing import Final

from pynetdicom.association import Association
from pynetdicom.transport import AddressInformation

from lfscp.upperlayer.connection.errors import ConnectionLostError, ReadTimeoutError
from lfscp.upperlayer.connection.record import ConnectionRecord
from lfscp.upperlayer.connection.sending import SendingSocket
from lfscp.upperlayer.connection.socket_calls import timeval
from lfscp.upperlayer.connection.tls import TLSSocket

BUFFER_BYTES: Final = 16384
# A single read is split so that a slow but steady sender of a huge fragment is not cut off; and so
# that a length that is only claimed takes no memory.
_STEP_BYTES: Final = 1 << 16
_PROGRESS_BYTES: Final = 1 << 16
# A peer whose small requests follow each other this fast is awaited awake: to be woken would cost
# as much again. Pointless where the peer might need the very processor that waits.
_PROMPT_S: Final = 0.000_3
_MAY_WAIT_AWAKE: Final = len(os.sched_getaffinity(0)) > 1


class BufferedSocket(SendingSocket):
    """The socket of an association: blocking, buffered reads, and the sends of `SendingSocket`.

    Args:
        assoc, record, client_socket, address: as `SendingSocket` takes them.

    Attributes:
        reads: how often something came.
    """

    def __init__(
        self,
        assoc: Association,
        record: ConnectionRecord,
        client_socket: socket.socket | None = None,
        address: AddressInformation | None = None,
    ) -> None:
        super().__init__(assoc, record, client_socket, address)
        self._set_buffer(bytearray(BUFFER_BYTES))
        self._start = 0
        self._end = 0
        self._limit_s: float | None = -1.0  # as the kernel knows it
        self._limit_due_s: float | None = None
        self._deadline = 0.0
        self._is_prompt = False  # the last one awaited awake came within _PROMPT_S
        self._poller: select.poll | None = None
        self.reads = 0
        self._quick_ack = True

    # --- reading ---

    def _set_buffer(self, buffer: bytearray) -> None:
        self._buffer = buffer
        self._view = memoryview(buffer)

    @property
    def can_scatter(self) -> bool:
        """Whether `receive_into` may be used: not with TLS, whose records come in one piece."""
        return not self._is_tls

    def give_back(self, data: bytes) -> None:
        """Have bytes that `receive_into` gave read again, before what is still to come."""
        data += bytes(self._view[self._start : self._end])
        self._set_buffer(bytearray(max(BUFFER_BYTES, len(data))))
        self._start, self._end = 0, len(data)
        self._view[: len(data)] = data

    def begin_wait(self, timeout_s: float | None) -> None:
        """Set how long the next reads may wait, all together; None is for ever."""
        self._deadline = float("inf") if timeout_s is None else time.monotonic() + timeout_s
        limit = timeout_s
        if self.while_waiting is not None:
            limit = self.look_every_s if timeout_s is None else min(self.look_every_s, timeout_s)
        self._limit_due_s = limit

    def _set_limit(self, sock: socket.socket) -> None:
        """Tell the kernel how long a read may wait; only when it is to read."""
        limit = self._limit_s = self._limit_due_s
        if isinstance(sock, TLSSocket):
            sock.receive_limit_s = limit
            return
        try:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, timeval(limit))
        except OSError as problem:
            raise ConnectionLostError(str(problem)) from problem

    def await_request(self, timeout_s: float | None, *, awake: bool = False) -> None:
        """Wait for the first byte of a request.

        Args:
            awake: do not sleep at first, when the last request came promptly.
        """
        self.begin_wait(timeout_s)
        if self._start != self._end:
            return
        if not awake or self._is_tls:
            self.fill(1)
            return
        began = time.perf_counter()
        if self._is_prompt:
            self._wait_awake(began + _PROMPT_S)
        self.fill(1)
        self._is_prompt = _MAY_WAIT_AWAKE and time.perf_counter() - began < _PROMPT_S

    def _wait_awake(self, deadline: float) -> None:
        if self._poller is None and self.socket is not None:
            self._poller = select.poll()
            self._poller.register(self.socket, select.POLLIN)
        poll = self._poller.poll if self._poller is not None else None
        while poll is not None and not poll(0) and time.perf_counter() < deadline:
            pass

    def _receive(self, view: memoryview, flags: int = 0) -> int:
        """At least one byte into `view`."""
        return self._read_socket(lambda sock: sock.recv_into(view, 0, flags))

    def receive_into(self, views: list[memoryview]) -> int:
        """At least one byte into several buffers, one after another; only when `can_scatter`."""
        if self._start == self._end:
            return self._read_socket(lambda sock: sock.recvmsg_into(views)[0])
        count = 0
        for view in views:
            piece = self._view[self._start : min(self._end, self._start + len(view))]
            view[: len(piece)] = piece
            self._start += len(piece)
            count += len(piece)
            if self._start == self._end:
                break
        return count

    def _read_socket(self, read: Callable[[socket.socket], int]) -> int:
        while True:
            sock = self.socket
            if sock is None:
                raise ConnectionLostError("closed")
            if self._limit_s != self._limit_due_s:
                self._set_limit(sock)
            if self._owes_ack:
                self._set_quick_ack(sock)
            try:
                count = read(sock)
            except (BlockingIOError, ssl.SSLWantReadError, TimeoutError):
                if time.monotonic() >= self._deadline - 0.01:
                    raise ReadTimeoutError from None
                self._look()
                continue
            except (OSError, ValueError) as problem:
                raise ConnectionLostError(str(problem)) from problem
            if count == 0:
                raise ConnectionLostError("closed by the peer")
            self.reads += 1
            if self.while_waiting is not None:
                self._look()  # whoever sends without end is waited for, too
            self._owes_ack = self._quick_ack
            return count

    def _set_quick_ack(self, sock: socket.socket) -> None:
        self._owes_ack = False
        try:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
        except OSError:
            self._quick_ack = False

    def _check_deadline(self) -> None:
        if time.monotonic() > self._deadline:
            raise ReadTimeoutError

    def fill(self, size: int) -> None:
        """Have at least `size` bytes (at most the buffer's) in the buffer."""
        if self._start == self._end:
            self._start = self._end = 0
            if len(self._buffer) > BUFFER_BYTES:  # of what was given back
                self._set_buffer(bytearray(BUFFER_BYTES))
        elif self._start + size > BUFFER_BYTES:
            rest = self._end - self._start
            self._view[:rest] = bytes(self._view[self._start : self._end])
            self._start, self._end = 0, rest
        while self._end - self._start < size:
            self._end += self._receive(self._view[self._end :])
            if self._end - self._start < size:
                self._check_deadline()

    def peek(self, size: int) -> memoryview:
        """The next `size` bytes, left in the buffer; valid until the next read."""
        if self._end - self._start < size:
            self.fill(size)
        return self._view[self._start : self._start + size]

    def skip(self, size: int) -> None:
        """Take bytes that were looked at."""
        self._start += size

    def unpack(self, layout: struct.Struct) -> tuple[int, ...]:
        """Take the next bytes as a fixed layout."""
        if self._end - self._start < layout.size:
            self.fill(layout.size)
        values = layout.unpack_from(self._buffer, self._start)
        self._start += layout.size
        return values

    def read_exactly(self, size: int) -> bytes:
        """The next `size` bytes, copied; for what is small."""
        if size <= BUFFER_BYTES:
            data = bytes(self.peek(size))
            self._start += size
            return data
        data_set = bytearray(size)
        with memoryview(data_set) as view:
            position = 0
            while position < size:
                position += self.read_some(view[position:])
                if position < size:
                    self._check_deadline()
        return bytes(data_set)

    def read_some(self, view: memoryview, *, may_read_ahead: bool = True) -> int:
        """Some bytes into `view`: from the buffer if it has any, else from the kernel."""
        size = len(view)
        buffered = self._end - self._start
        if buffered:
            size = min(size, buffered)
            view[:size] = self._view[self._start : self._start + size]
            self._start += size
            return size
        if may_read_ahead and size < BUFFER_BYTES // 4:  # there is likely more behind it
            self.fill(1)
            return self.read_some(view)
        return self._receive(view, 0 if self._is_tls else socket.MSG_WAITALL)

    def read(self, size: int, timeout_s: float | None = 0.0) -> bytearray:
        """Exactly `size` bytes.

        Args:
            timeout_s: while they arrive steadily the deadline moves on by so much; 0 leaves it.
        """
        body = bytearray(min(size, _STEP_BYTES))
        position = progress = 0
        while position < size:
            if position == len(body):
                body.extend(bytes(min(size - position, _STEP_BYTES)))
            with memoryview(body) as view:
                position += self.read_some(view[position:])
            if timeout_s != 0.0 and position - progress >= _PROGRESS_BYTES:
                progress = position
                self.begin_wait(timeout_s)
            self._check_deadline()
        return body

    def take_what_is_there(self) -> None:
        """Read what has come, if anything; a read that does not wait needs no time limit."""
        if not self._is_tls and self._start == self._end:
            self.has_data()

    def has_data(self) -> bool:
        """Whether something can be read now, without waiting; a lost connection counts."""
        if self._end > self._start:
            return True
        sock = self.socket
        if sock is None:
            return False
        if isinstance(sock, ssl.SSLSocket):
            if sock.pending():
                return True
            poller = select.poll()
            poller.register(sock, select.POLLIN)
            return bool(poller.poll(0))
        self._start = self._end = 0
        try:
            count = sock.recv_into(self._view, 0, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return False
        except (OSError, ValueError):
            return True
        if count == 0:
            return True  # the next read meets the end again
        self._end = count
        self.reads += 1
        self._owes_ack = self._quick_ack
        return True
