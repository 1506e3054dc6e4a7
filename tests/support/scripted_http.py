"""An HTTP server that answers as a script says: honestly, wrongly, or without end.

It is made of bytes and sockets: no library would send what it sends.
"""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

Script = bytes | Callable[[socket.socket, bytes], None]
JSON = "application/dicom+json"
BOUNDARY = "XX"
PARTS = f'multipart/related; type="application/dicom"; boundary={BOUNDARY}'


@dataclass
class Asked:
    """A server that runs.

    Attributes:
        heads: of the requests that came, in their order.
        bodies: of those.
    """

    url: str
    heads: list[str] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)

    @property
    def targets(self) -> list[str]:
        """What was asked for."""
        return [head.split(" ", 2)[1] for head in self.heads]


def answer(
    body: bytes | str = b"", status: int = 200, content_type: str = JSON, **fields: str
) -> bytes:
    """A whole answer; `fields` are header fields with _ for the hyphen."""
    content = body.encode() if isinstance(body, str) else body
    lines = [f"HTTP/1.1 {status} X", f"Content-Length: {len(content)}"]
    lines += [f"Content-Type: {content_type}"] if content_type else []
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in fields.items()]
    return "\r\n".join([*lines, "", ""]).encode() + content


def head(content_type: str = JSON) -> bytes:
    """The head of an answer that ends when the connection does."""
    return f"HTTP/1.1 200 OK\r\nContent-Type: {content_type}\r\n\r\n".encode()


def part(content: bytes, content_type: str = "application/dicom") -> bytes:
    """A part of a multipart answer."""
    return f"--{BOUNDARY}\r\nContent-Type: {content_type}\r\n\r\n".encode() + content + b"\r\n"


END = f"--{BOUNDARY}--\r\n".encode()


@contextmanager
def scripted_http(
    *scripts: Script, tls: ssl.SSLContext | None = None, reads_bodies: bool = True
) -> Iterator[Asked]:
    """A server that answers each request with the next script, and all further ones with the last.

    Args:
        reads_bodies: whether it takes the body of a request before it answers.
    """
    listener = socket.create_server(("127.0.0.1", 0))
    scheme = "http" if tls is None else "https"
    asked = Asked(f"{scheme}://127.0.0.1:{listener.getsockname()[1]}/dicom-web")
    open_ones: list[socket.socket] = []

    def accept() -> None:
        with suppress(OSError):
            while True:
                connection, _ = listener.accept()
                open_ones.append(connection)
                threading.Thread(target=serve, args=(connection,), daemon=True).start()

    def serve(connection: socket.socket) -> None:
        with suppress(OSError, IndexError):
            if tls is not None:
                connection = tls.wrap_socket(connection, server_side=True)
                open_ones.append(connection)
            while request := _request(connection, reads_bodies=reads_bodies):
                _answer(connection, asked, request, scripts)
        connection.close()

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield asked
    finally:
        listener.close()
        for each in open_ones:
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()


def _answer(
    connection: socket.socket, asked: Asked, request: bytes, scripts: Sequence[Script]
) -> None:
    begin, _, body = request.partition(b"\r\n\r\n")
    asked.heads.append(begin.decode())
    asked.bodies.append(body)
    script = scripts[min(len(asked.heads), len(scripts)) - 1]
    if callable(script):
        script(connection, request)
        connection.shutdown(socket.SHUT_RDWR)
        connection.close()
    else:
        connection.sendall(script)
        if b"Content-Length" not in script:
            connection.shutdown(socket.SHUT_WR)


def _request(connection: socket.socket, *, reads_bodies: bool) -> bytes:
    data = b""
    while b"\r\n\r\n" not in data:
        block = connection.recv(65536)
        if not block:
            return b""
        data += block
    begin, _, body = data.partition(b"\r\n\r\n")
    for line in begin.decode().split("\r\n"):
        name, _, value = line.partition(":")
        if reads_bodies and name.lower() == "content-length":
            while len(body) < int(value):
                body += connection.recv(65536)
    return begin + b"\r\n\r\n" + body
