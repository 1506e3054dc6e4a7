"""Sends messages between the node and its processes: fields as JSON, then bytes.

Rules: a hostile frame may have taken over the process at the other end. So fields are JSON of a
limited length, and nothing that is received is executed. During a wait, the caller is asked several
times a second whether to give up.
"""

from __future__ import annotations

import json
import math
import os
import select
import socket
import struct
import time
from collections.abc import Callable, Iterator
from typing import Any, Final, NamedTuple

LOOK_AGAIN_S: Final = 0.25
_HEAD: Final = struct.Struct("<IQ")  # bytes of the fields, and of what follows them
_AT_ONCE: Final = 1 << 18
_MAX_FIELDS: Final = 4 << 20
_MAX_FILES: Final = 2  # that come with a message
_PIECE: Final = 1 << 20  # bytes of a body: whole pixel cells


class Message(NamedTuple):
    """One message.

    Args:
        length: bytes of its body, which the caller still has to receive.
        descriptor: of a file that came with it; -1 for none.
        output: of a second one, to be written to.
    """

    fields: dict[str, Any]
    length: int
    descriptor: int = -1
    output: int = -1


class Connection:
    """One end of a socket, for one thread at a time.

    Args:
        look: called several times a second during a wait with a limit; an error that it raises
            ends the wait.
    """

    def __init__(self, sock: socket.socket, look: Callable[[], None] = lambda: None) -> None:
        self.sock = sock
        self.look = look
        self._poller = select.poll()
        self._poller.register(sock, select.POLLIN)

    @property
    def has_ended(self) -> bool:
        """Whether the other end is gone; an idle process sends nothing."""
        return bool(self._poller.poll(0))

    def send(
        self,
        fields: dict[str, Any],
        *body: bytes | memoryview,
        descriptor: int = -1,
        output: int = -1,
    ) -> None:
        """Send a message.

        Args:
            descriptor: of a file that the receiver gets as well.
            output: of a second one, that the receiver writes to; only beside a first.
        Raises:
            OSError: the other end is gone, or receives nothing for too long.
        """
        text = json.dumps(fields).encode()
        length = sum(len(each) for each in body)
        head = _HEAD.pack(len(text), length) + text
        if descriptor >= 0:
            given = [descriptor] if output < 0 else [descriptor, output]
            head = head[socket.send_fds(self.sock, [head], given) :]
        if length <= _AT_ONCE:  # so that the receiver wakes once
            head, body = b"".join((head, *body)), ()
        self.sock.sendall(head)
        for each in body:
            self.sock.sendall(each)

    def receive(self, seconds: float = math.inf, *, takes_file: bool = False) -> Message:
        """Receive a message up to its body.

        Raises:
            EOFError: the other end is gone.
            ValueError: it is no message.
            TimeoutError: it takes longer than that.
            OSError: the socket fails.
        """
        deadline = time.monotonic() + seconds
        descriptors: list[int] = []
        head = b""
        if takes_file:
            self._wait(deadline)
            head, descriptors, _, _ = socket.recv_fds(self.sock, _HEAD.size, _MAX_FILES)
        try:
            size, length = _HEAD.unpack(head or self._read(_HEAD.size, deadline))
            return Message(self._fields(size, deadline), length, *descriptors)
        except BaseException:
            for each in descriptors:
                os.close(each)
            raise

    def read(self, length: int) -> bytes:
        """A whole body, without a time limit; raises EOFError, OSError."""
        return self._read(length, math.inf)

    def pieces(self, length: int, seconds: float) -> Iterator[memoryview]:
        """A body, piece by piece in the same memory; raises EOFError, OSError."""
        deadline = time.monotonic() + seconds
        place = memoryview(bytearray(min(length, _PIECE)))
        for start in range(0, length, _PIECE):
            piece = left = place[: length - start]
            while left:
                self._wait(deadline)
                count = self.sock.recv_into(left)
                if not count:
                    raise EOFError
                left = left[count:]
            yield piece

    def _fields(self, size: int, deadline: float) -> dict[str, Any]:
        if size > _MAX_FIELDS:
            raise ValueError(f"{size} bytes of fields")
        try:
            found = json.loads(self._read(size, deadline))
        except RecursionError:
            found = None
        if not isinstance(found, dict):
            raise ValueError("no fields")  # noqa: TRY004 - the message is wrong
        return found

    def _read(self, size: int, deadline: float) -> bytes:
        """Read so many bytes, usually without a copy."""
        pieces: list[bytes] = []
        while size:
            self._wait(deadline)
            piece = self.sock.recv(size, socket.MSG_WAITALL)
            if not piece:
                raise EOFError
            pieces.append(piece)
            size -= len(piece)
        return b"".join(pieces)

    def _wait(self, deadline: float) -> None:
        while True:
            left_s = deadline - time.monotonic()
            look_again_ms = 1000 * min(LOOK_AGAIN_S, max(0.0, left_s))
            if self._poller.poll(None if left_s == math.inf else look_again_ms):
                return
            self.look()
            if time.monotonic() >= deadline:
                raise TimeoutError("no answer in time")
