"""Messages between the node and the rendering processes: fields as JSON, then bytes.

Rules: the node trusts no more than that fields are JSON of a bounded length; nothing that comes
from a process whose codec was led astray is run.
"""

from __future__ import annotations

import json
import os
import socket
import struct
from typing import Any, Final, NamedTuple

_HEAD: Final = struct.Struct("<IQ")  # bytes of the fields, and of what follows them
_AT_ONCE: Final = 1 << 18
_MAX_FIELDS: Final = 4 << 20


class Message(NamedTuple):
    """One message.

    Args:
        length: bytes of its body, which is still to be received.
        descriptor: of a file that came with it; -1 for none.
    """

    fields: dict[str, Any]
    length: int
    descriptor: int = -1


def send(
    connection: socket.socket,
    fields: dict[str, Any],
    body: bytes | memoryview = b"",
    descriptor: int = -1,
) -> None:
    """Send a message.

    Args:
        descriptor: of a file that the receiver gets as well.
    Raises:
        OSError: the other process has ended, or takes nothing for too long.
    """
    text = json.dumps(fields).encode()
    head = _HEAD.pack(len(text), len(body)) + text
    if descriptor >= 0:
        head = head[socket.send_fds(connection, [head], [descriptor]) :]
    if len(body) <= _AT_ONCE:  # so that who waits for it wakes once
        connection.sendall(head + body)
        return
    connection.sendall(head)
    connection.sendall(body)


def receive(connection: socket.socket) -> Message:
    """Receive a message up to its body.

    Raises:
        EOFError: the other process has ended.
        ValueError: it is none.
        OSError: nothing comes for too long.
    """
    head, descriptors, _, _ = socket.recv_fds(connection, _HEAD.size, 1)
    try:
        size, length = _HEAD.unpack(head + _exactly(connection, _HEAD.size - len(head)))
        return Message(_fields(connection, size), length, *descriptors[:1])
    except BaseException:
        for each in descriptors:
            os.close(each)
        raise


def _fields(connection: socket.socket, size: int) -> dict[str, Any]:
    if size > _MAX_FIELDS:
        raise ValueError(f"{size} bytes of fields")
    found = json.loads(_exactly(connection, size))
    if not isinstance(found, dict):
        raise ValueError("no fields")  # noqa: TRY004 - what was sent is wrong
    return found


def _exactly(connection: socket.socket, size: int) -> bytes:
    found = bytearray()
    while len(found) < size:
        piece = connection.recv(size - len(found))
        if not piece:
            raise EOFError
        found += piece
    return bytes(found)
