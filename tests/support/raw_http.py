"""A client of a web server that sends any bytes: a part of a request, or one byte at a time."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress

from lfscp.observe import metrics

WAIT_S = 30


def connect(address: tuple[str, int], content: bytes = b"") -> socket.socket:
    """A connection on which some bytes were sent."""
    sock = socket.create_connection(address, WAIT_S)
    sock.sendall(content)
    return sock


def until(sock: socket.socket, mark: bytes) -> bytes:
    """What comes up to a mark, or to the end if it is empty; a reset is an end."""
    found = b""
    while not mark or mark not in found:
        try:
            piece = sock.recv(1 << 20)
        except ConnectionResetError:
            piece = b""
        if not piece:
            assert not mark, found
            break
        found += piece
    return found


def rest(sock: socket.socket) -> bytes:
    """All that comes until the end; a reset is an end."""
    return until(sock, b"")


@contextmanager
def dripping(
    socks: Sequence[socket.socket], piece: bytes = b"x", every_s: float = 0.001
) -> Iterator[None]:
    """Send a piece again and again, so that no connection falls silent or comes to its end."""
    over = threading.Event()

    def drip() -> None:
        with suppress(OSError):
            while not over.wait(every_s):
                for each in socks:
                    each.sendall(piece)

    thread = threading.Thread(target=drip)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def refused(reason: str) -> float:
    """How many requests the server has refused for a reason."""
    sums = metrics.BOARD.sums()
    return sum(number for values, number in metrics.HTTP_REFUSED.samples(sums) if reason in values)
