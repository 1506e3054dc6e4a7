"""Finds HL7 messages on a stream by MLLP: one byte stands before each, two stand behind it.

A message is a vertical tab, its bytes, a file separator and a carriage return. Between two messages
there may be line ends and spaces. Source: HL7 version 2, Transport Specification: MLLP.
"""

from __future__ import annotations

import socket
import time
from dataclasses import dataclass
from typing import Final

BEGIN: Final = b"\x0b"
END: Final = b"\x1c"
_BETWEEN: Final = b"\r\n \t\0"
_READ_BYTES: Final = 64 << 10


class FramingError(Exception):
    """The connection cannot go on.

    Args:
        reason: for the log.
        kind: for the metrics.
    """

    def __init__(self, reason: str, kind: str) -> None:
        super().__init__(reason)
        self.reason = reason
        self.kind = kind


@dataclass(frozen=True, slots=True)
class Limits:
    """What a sender may do.

    Args:
        max_bytes: of a message.
        idle_s: without a message.
        message_s: from the first byte of a message to its last, and for taking the answer.
        connections: at once; when there are more, the one that is idle the longest ends.
    """

    max_bytes: int = 1 << 20
    idle_s: float = 3600.0
    message_s: float = 30.0
    connections: int = 32


class Stream:
    """The messages of one connection.

    Args:
        sock: closed by the caller.
    """

    def __init__(self, sock: socket.socket, limits: Limits) -> None:
        self._sock = sock
        self._limits = limits
        self._left = b""

    def read(self) -> bytes | None:
        """The next message; None when the peer has closed the connection between two.

        Raises:
            FramingError: the peer is too slow, or sends what is no message.
            OSError: the connection is broken.
        """
        if not self._begin():
            return None
        parts, size = [], 0
        deadline = time.monotonic() + self._limits.message_s
        while True:
            before, ended, after = self._left.partition(END)
            parts.append(before)
            size += len(before)
            if size > self._limits.max_bytes:
                raise FramingError("a message is too long", "size")
            if ended:
                self._left = after
                return b"".join(parts)
            self._left = self._receive(deadline)
            if not self._left:
                raise FramingError("the connection ended within a message", "cut")

    def _begin(self) -> bool:
        """Wait for a message; whether there is one."""
        deadline = time.monotonic() + self._limits.idle_s
        while True:
            rest = self._left.lstrip(_BETWEEN)
            if rest:
                break
            try:
                self._left = self._receive(deadline, "nothing was sent for a long time", "idle")
            except ConnectionResetError:  # the peer closed it, and left bytes of an answer unread
                return False
            if not self._left:
                return False
        if not rest.startswith(BEGIN):
            raise FramingError("bytes outside of an MLLP frame", "framing")
        self._left = rest[1:]
        return True

    def _receive(
        self, deadline: float, reason: str = "a message did not end in time", kind: str = "slow"
    ) -> bytes:
        left_s = deadline - time.monotonic()
        try:
            if left_s > 0:
                self._sock.settimeout(left_s)
                return self._sock.recv(_READ_BYTES)
        except TimeoutError:
            pass
        raise FramingError(reason, kind)

    def write(self, answer: bytes) -> None:
        """Send an answer.

        Raises:
            FramingError: the peer does not take it.
            OSError: the connection is broken.
        """
        self._sock.settimeout(self._limits.message_s)
        try:
            self._sock.sendall(BEGIN + answer + END + b"\r")
        except TimeoutError:
            raise FramingError("the answer was not taken in time", "slow") from None
