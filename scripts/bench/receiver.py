"""Answers the C-STORE sub-operations that arrive on a socket, in a process of its own.

    python receiver.py DESCRIPTOR

It does next to nothing per object, so that the sender is what is measured.
"""

from __future__ import annotations

import socket
import struct
import sys

from peers import dul

_C_STORE_RQ = 0x0001
_BUFFER = 1 << 21


def _read(connection: socket.socket, view: memoryview) -> bool:
    """Fill the view; False at the end of the stream."""
    position = 0
    while position < len(view):
        count = connection.recv_into(view[position:], 0, socket.MSG_WAITALL)
        if count == 0:
            return False
        position += count
    return True


def answer_stores(connection: socket.socket) -> None:
    """Answer until the peer closes; responses to our own requests are dropped."""
    view = memoryview(bytearray(_BUFFER))
    context_id, reply = 0, b""
    while _read(connection, view[:6]):
        kind, length = struct.unpack_from(">BxI", view)
        if not _read(connection, view[:length]):
            return
        if kind != dul.PDU_DATA:
            continue
        context_id, flags = view[4], view[5]
        if flags & 1:
            command = dul.decode_command(bytes(view[6:length]))
            is_store = int.from_bytes(command[0x0100], "little") == _C_STORE_RQ
            message_id = int.from_bytes(command.get(0x0110, b""), "little")
            reply = dul.encode_store_response(context_id, message_id) if is_store else b""
        elif flags & 2 and reply:
            connection.sendall(reply)


if __name__ == "__main__":
    with socket.socket(fileno=int(sys.argv[1])) as given:
        answer_stores(given)
