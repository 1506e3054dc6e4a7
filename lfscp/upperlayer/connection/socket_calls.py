"""System calls on sockets that Python's socket module lacks or offers only in part."""

from __future__ import annotations

import socket
import struct
from typing import Final, cast

_NO_LIMIT: Final = struct.pack("@ll", 0, 0)
_ACKNOWLEDGED: Final = struct.Struct("@120xQ")  # tcpi_bytes_acked of struct tcp_info
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


def bytes_acknowledged(sock: socket.socket | None) -> int | None:
    """How much of what was sent the peer has taken; None when the connection is gone."""
    try:
        info = sock and sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _ACKNOWLEDGED.size)
        return cast(int, _ACKNOWLEDGED.unpack(info or b"")[0])
    except (OSError, struct.error):
        return None
