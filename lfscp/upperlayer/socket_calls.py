"""Calls of the kernel on a socket that Python has in pieces only."""

from __future__ import annotations

import socket
import struct
from collections.abc import Sequence
from typing import Final

_NO_LIMIT: Final = struct.pack("@ll", 0, 0)
GATHER: Final = 64  # buffers in one sendmsg, well under IOV_MAX


def timeval(seconds: float | None) -> bytes:
    """A struct timeval for SO_RCVTIMEO and SO_SNDTIMEO; None is no limit."""
    if seconds is None:
        return _NO_LIMIT
    micros = max(1, int(seconds * 1_000_000))
    return struct.pack("@ll", *divmod(micros, 1_000_000))


def drop_received(sock: socket.socket, view: memoryview) -> None:
    """Read and forget what has come."""
    try:
        while socket.socket.recv_into(sock, view, 0, socket.MSG_DONTWAIT):
            pass
    except BlockingIOError:
        return


def send_gathered(sock: socket.socket, buffers: Sequence[bytes | memoryview]) -> None:
    """Send buffers one after the other, many in one call."""
    for first in range(0, len(buffers), GATHER):
        batch = buffers[first : first + GATHER]
        sent = sock.sendmsg(batch)
        for buffer in batch:
            if sent >= len(buffer):
                sent -= len(buffer)
                continue
            sock.sendall(memoryview(buffer)[sent:])
            sent = 0
