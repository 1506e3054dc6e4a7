"""A peer of our client that answers as a script says: honestly, wrongly, or without end.

It is made of bytes, as `dicom_peer`: no toolkit would send what it sends.
"""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from lfscp.scu.peer import Peer
from tests.support import dicom_peer as peer

STUDY = "1.2.3"
GET = "1.2.840.10008.5.1.4.1.2.2.3"
MOVE = "1.2.840.10008.5.1.4.1.2.2.2"
C_STORE_RSP, C_GET_RSP, C_FIND_RSP, C_MOVE_RSP, C_ECHO_RSP = 0x8001, 0x8010, 0x8020, 0x8021, 0x8030
SUCCESS, PENDING, REFUSED = 0x0000, 0xFF00, 0xA700
_ABORT = peer.pdu(peer.ABORT, bytes(4))[:6]  # its head
RELEASED = peer.pdu(peer.RELEASE_RP, b"\0\0\0\0")


def value(group: int, number: int, content: bytes) -> bytes:
    """A data element in Implicit VR Little Endian."""
    return struct.pack("<HHI", group, number, len(content)) + content


MATCH = value(8, 0x52, b"STUDY ") + value(0x10, 0x10, b"Doe^Jo") + value(0x20, 0xD, b"1.2.3\0")


def accepted(*contexts: tuple[int, str], role: str = "", max_length: int = 16384) -> bytes:
    """An A-ASSOCIATE-AC with these contexts, each with its transfer syntax."""
    body = struct.pack(">Hxx16s16s32x", 1, b"X".ljust(16), b"LFSCP".ljust(16))
    body += peer.item(0x10, peer.APPLICATION_CONTEXT.encode())
    for context_id, syntax in contexts:
        inner = struct.pack(">BxBx", context_id, 0) + peer.item(0x40, syntax.encode())
        body += peer.item(0x21, inner)
    said = peer.item(0x51, struct.pack(">I", max_length)) + peer.item(0x52, b"1.2.826.0.1.99")
    if role:
        uid = struct.pack(">H", len(role)) + role.encode()
        said += peer.item(0x54, uid + b"\0\1")
    return peer.pdu(peer.ASSOCIATE_AC, body + peer.item(0x50, said))


ACCEPTED = accepted((1, peer.IMPLICIT))
# A C-GET of CT images: context 5 is theirs with Implicit VR Little Endian.
TAKING = accepted((1, peer.IMPLICIT), (5, peer.IMPLICIT), role=peer.CT)
# The same when the SOP classes are not known beforehand.
TAKING_ANY = accepted((1, peer.IMPLICIT), (3, peer.IMPLICIT), role=peer.CT)


def response(
    field: int,
    sop_class: str,
    status: int,
    *more: bytes,
    data: bool = False,
    message_id: int = 1,
) -> bytes:
    """The command set of a response."""
    return peer.command(
        peer.uid(0x0002, sop_class),
        peer.us(0x0100, field),
        peer.us(0x0120, message_id),
        peer.us(0x0800, peer.DATA_SET if data else peer.NO_DATA_SET),
        peer.us(0x0900, status),
        *more,
    )


def found(data: bytes = MATCH) -> bytes:
    """A match, in as many PDUs as it needs."""
    command = response(C_FIND_RSP, peer.STUDY_ROOT_FIND, PENDING, data=True)
    pieces = [data[at : at + 16000] for at in range(0, len(data), 16000)]
    said = peer.p_data(peer.pdv(1, peer.COMMAND | peer.LAST, command))
    for number, piece in enumerate(pieces, 1):
        said += peer.p_data(peer.pdv(1, peer.LAST if number == len(pieces) else 0, piece))
    return said


def counters(completed: int, failed: int = 0) -> bytes:
    """The numbers of sub-operations that a response has."""
    numbers = ((0x1020, 0), (0x1021, completed), (0x1022, failed), (0x1023, 0))
    return b"".join(peer.us(number, count) for number, count in numbers)


def brought(
    instance: str = "1.2.3.4", study: str = STUDY, message_id: int = 1, context_id: int = 5
) -> bytes:
    """An object of a C-GET."""
    data = peer.data_set(instance).replace(
        value(0x20, 0xD, b"1.2.3\0"), value(0x20, 0xD, study.encode() + b"\0" * (len(study) % 2))
    )
    return peer.message(context_id, peer.store_rq(message_id, instance), data)


def got(completed: int, failed: int = 0, status: int = SUCCESS) -> bytes:
    """The last response of a C-GET."""
    return peer.message(1, response(C_GET_RSP, GET, status, counters(completed, failed)))


Script = Callable[[socket.socket], None]


def _hear_the_end(connection: socket.socket) -> None:
    """Hear what comes until we go, or abort: then the connection is the peer's to close (AA-3)."""
    end = b""
    while not end.startswith(_ABORT) and (piece := connection.recv(65536)):
        end = (end + piece)[-len(peer.pdu(peer.ABORT, bytes(4))) :]


@contextmanager
def scripted(script: Script | bytes, **options: float) -> Iterator[Peer]:
    """A peer that does this on each connection, and then hears what comes, until we go or abort.

    Args:
        script: bytes are said at once. What it raises when we have gone is of no interest.
        options: of the `Peer`; by default it is waited for long: who ends early did not wait.
    """
    said = script

    def run(connection: socket.socket) -> None:
        with connection, suppress(OSError):
            connection.settimeout(60)
            if isinstance(said, bytes):
                connection.sendall(said)
            else:
                said(connection)
            _hear_the_end(connection)

    def listen() -> None:
        with suppress(OSError):
            while True:
                connection, _ = listening.accept()
                threading.Thread(target=run, args=(connection,), daemon=True).start()

    patient = {"connect_timeout_s": 600.0, "acse_timeout_s": 600.0, "dimse_timeout_s": 600.0}
    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=listen, daemon=True)
        thread.start()
        try:
            yield Peer("X", *listening.getsockname(), **{**patient, **options})
        finally:
            with suppress(OSError):
                listening.shutdown(socket.SHUT_RDWR)
            thread.join()
