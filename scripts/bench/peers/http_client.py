"""A plain HTTP/1.1 client that costs little: a body goes into one buffer."""

from __future__ import annotations

import http.client
import socket
from collections.abc import Iterator, Mapping
from typing import NamedTuple, Self

TIMEOUT_SECONDS = 120.0
_HOST = "127.0.0.1"


class HttpError(Exception):
    """Another answer than the one that was expected."""


class Answer(NamedTuple):
    status: int
    content_type: str
    size: int


class Client:
    """One connection that stays open.

    Args:
        room: bytes of the largest answer whose content is kept; of a larger one the end is kept.
    """

    def __init__(self, port: int, room: int = 2 << 20) -> None:
        self._connection = http.client.HTTPConnection(_HOST, port, timeout=TIMEOUT_SECONDS)
        self._connection.connect()
        self._connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._buffer = bytearray(room)
        self._kept = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self._connection.close()

    @property
    def body(self) -> bytes:
        """Of the last answer, as far as it is kept."""
        return bytes(self._buffer[: self._kept])

    def ask(
        self,
        path: str,
        accept: str = "*/*",
        *,
        method: str = "GET",
        body: Iterator[bytes] | bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """Send a request and read the answer to its end."""
        sent = {"Accept": accept, **(headers or {})}
        self._connection.request(method, path, body, sent)
        response = self._connection.getresponse()
        view, at, size = memoryview(self._buffer), 0, 0
        while count := response.readinto(view[at:]):
            size += count
            at = (at + count) % len(view)
        self._kept = min(size, len(view))
        return Answer(response.status, response.headers.get("Content-Type", ""), size)

    def get(self, path: str, accept: str = "*/*") -> Answer:
        """Ask, and take no other answer than 200 or 206.

        Raises:
            HttpError: it was another.
        """
        answer = self.ask(path, accept)
        if answer.status not in (200, 206):
            shown = self.body[:200].decode("latin_1")
            raise HttpError(f"{path[-60:]}: HTTP {answer.status} {shown}")
        return answer


def is_served(port: int) -> bool:
    """Whether HTTP is answered there, whatever the answer."""
    try:
        with Client(port, 1 << 16) as client:
            client.ask("/")
    except (OSError, http.client.HTTPException):
        return False
    return True
