"""A raw-socket DICOM client: just enough of PS3.7/PS3.8 to drive a server cheaply.

The measuring client must cost next to nothing beside the server, so requests are
encoded once and sent as bytes, and a response's command set is read with one pass.
TCP_NODELAY is always on.
"""

from __future__ import annotations

import socket
import ssl
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import BinaryIO, cast

VERIFICATION = "1.2.840.10008.1.1"
STUDY_ROOT_FIND = "1.2.840.10008.5.1.4.1.2.2.1"
STUDY_ROOT_MOVE = "1.2.840.10008.5.1.4.1.2.2.2"
STUDY_ROOT_GET = "1.2.840.10008.5.1.4.1.2.2.3"
CT_IMAGE_STORAGE = "1.2.840.10008.5.1.4.1.1.2"
IMPLICIT_LE = "1.2.840.10008.1.2"
EXPLICIT_LE = "1.2.840.10008.1.2.1"
EXPLICIT_BE = "1.2.840.10008.1.2.2"

_APPLICATION_CONTEXT = b"1.2.840.10008.3.1.1.1"
_IMPLEMENTATION_UID = b"2.25.71032604182394857110928374655"
_IMPLEMENTATION_VERSION = b"PEERBENCH_1"

PDU_ASSOCIATE_RQ, PDU_ASSOCIATE_AC, PDU_ASSOCIATE_RJ = 1, 2, 3
PDU_DATA, PDU_RELEASE_RQ, PDU_RELEASE_RP, PDU_ABORT = 4, 5, 6, 7
RELEASE_RQ = struct.pack(">BBIxxxx", PDU_RELEASE_RQ, 0, 4)

NO_DATA_SET = 0x0101
STATUS_SUCCESS = 0x0000
PENDING = (0xFF00, 0xFF01)


class DicomError(Exception):
    """The server answered with something other than the expected message."""


@dataclass(frozen=True)
class ProposedContext:
    context_id: int
    abstract_syntax: str
    transfer_syntaxes: tuple[str, ...] = (IMPLICIT_LE,)


@dataclass
class Response:
    """One DIMSE response: the command set's elements (group 0000) and the data set."""

    command: dict[int, bytes]
    data: bytes = b""

    @property
    def status(self) -> int:
        return int.from_bytes(self.command[0x0900], "little")

    def number(self, element: int) -> int | None:
        raw = self.command.get(element)
        return int.from_bytes(raw, "little") if raw else None


# --- encoding -----------------------------------------------------------------


def _item(kind: int, body: bytes) -> bytes:
    return struct.pack(">BBH", kind, 0, len(body)) + body


def encode_associate_rq(
    called: str,
    contexts: Sequence[ProposedContext],
    calling: str = "PEERBENCH",
    max_pdu: int = 131072,
    receives: Sequence[str] = (),
) -> bytes:
    """An A-ASSOCIATE-RQ PDU (PS3.8 9.3.2); `receives`: SOP classes to be their SCP, for C-GET."""
    items = [_item(0x10, _APPLICATION_CONTEXT)]
    for context in contexts:
        body = struct.pack(">Bxxx", context.context_id)
        body += _item(0x30, context.abstract_syntax.encode())
        body += b"".join(_item(0x40, uid.encode()) for uid in context.transfer_syntaxes)
        items.append(_item(0x20, body))
    user = _item(0x51, struct.pack(">I", max_pdu))
    user += _item(0x52, _IMPLEMENTATION_UID) + _item(0x55, _IMPLEMENTATION_VERSION)
    for sop_class in receives:
        uid = sop_class.encode()
        user += _item(0x54, struct.pack(">H", len(uid)) + uid + b"\0\1")
    items.append(_item(0x50, user))
    fixed = struct.pack(">HH16s16s32x", 1, 0, called.ljust(16).encode(), calling.ljust(16).encode())
    body = fixed + b"".join(items)
    return struct.pack(">BBI", PDU_ASSOCIATE_RQ, 0, len(body)) + body


def encode_element(group: int, element: int, value: bytes, pad: bytes = b"\0") -> bytes:
    """One element in Implicit VR Little Endian."""
    if len(value) % 2:
        value += pad
    return struct.pack("<HHI", group, element, len(value)) + value


def _encode_command(elements: Sequence[tuple[int, bytes]]) -> bytes:
    body = b"".join(encode_element(0, number, value) for number, value in elements)
    return encode_element(0, 0, struct.pack("<I", len(body))) + body


def _us(value: int) -> bytes:
    return struct.pack("<H", value)


def _pdata(context_id: int, flags: int, fragment: bytes) -> bytes:
    return (
        struct.pack(">BBIIBB", PDU_DATA, 0, len(fragment) + 6, len(fragment) + 2, context_id, flags)
        + fragment
    )


def encode_echo(context_id: int, message_id: int = 1) -> bytes:
    command = _encode_command(
        [
            (0x0002, VERIFICATION.encode()),
            (0x0100, _us(0x0030)),
            (0x0110, _us(message_id)),
            (0x0800, _us(NO_DATA_SET)),
        ]
    )
    return _pdata(context_id, 0x03, command)


def encode_find(
    context_id: int, identifier: bytes, message_id: int = 1, sop_class: str = STUDY_ROOT_FIND
) -> bytes:
    command = _encode_command(
        [
            (0x0002, sop_class.encode()),
            (0x0100, _us(0x0020)),
            (0x0110, _us(message_id)),
            (0x0700, _us(0)),
            (0x0800, _us(0x0000)),
        ]
    )
    return _pdata(context_id, 0x03, command) + _pdata(context_id, 0x02, identifier)


def encode_move(context_id: int, identifier: bytes, destination: str, message_id: int = 1) -> bytes:
    command = _encode_command(
        [
            (0x0002, STUDY_ROOT_MOVE.encode()),
            (0x0100, _us(0x0021)),
            (0x0110, _us(message_id)),
            (0x0600, destination.ljust(len(destination) + len(destination) % 2).encode()),
            (0x0700, _us(0)),
            (0x0800, _us(0x0000)),
        ]
    )
    return _pdata(context_id, 0x03, command) + _pdata(context_id, 0x02, identifier)


def encode_store(
    context_id: int, sop_class: str, sop_instance: str, data_set: bytes, pdu_length: int
) -> bytes:
    """A whole C-STORE request, its data set cut into P-DATA-TF PDUs of at most `pdu_length`."""
    command = _encode_command(
        [
            (0x0002, sop_class.encode()),
            (0x0100, _us(0x0001)),
            (0x0110, _us(1)),
            (0x0700, _us(0)),
            (0x0800, _us(0x0000)),
            (0x1000, sop_instance.encode()),
        ]
    )
    step = pdu_length - 6  # PDV length, context ID and control header
    pieces = [data_set[i : i + step] for i in range(0, len(data_set), step)]
    pdus = [_pdata(context_id, 0x03, command)]
    pdus += [_pdata(context_id, 0x00, piece) for piece in pieces[:-1]]
    return b"".join([*pdus, _pdata(context_id, 0x02, pieces[-1])])


def encode_store_response(context_id: int, message_id: int) -> bytes:
    """A C-STORE response with status success; without UIDs, which are optional in it."""
    command = _encode_command(
        [
            (0x0100, _us(0x8001)),
            (0x0120, _us(message_id)),
            (0x0800, _us(NO_DATA_SET)),
            (0x0900, _us(STATUS_SUCCESS)),
        ]
    )
    return _pdata(context_id, 0x03, command)


def encode_get(context_id: int, identifier: bytes, message_id: int = 1) -> bytes:
    command = _encode_command(
        [
            (0x0002, STUDY_ROOT_GET.encode()),
            (0x0100, _us(0x0010)),
            (0x0110, _us(message_id)),
            (0x0700, _us(0)),
            (0x0800, _us(0x0000)),
        ]
    )
    return _pdata(context_id, 0x03, command) + _pdata(context_id, 0x02, identifier)


def encode_identifier(elements: dict[tuple[int, int], str]) -> bytes:
    """A query identifier, Implicit VR Little Endian; UIDs padded with NUL, text with a space."""
    uid_tags = {(0x0008, 0x0016), (0x0008, 0x0018), (0x0020, 0x000D), (0x0020, 0x000E)}
    return b"".join(
        encode_element(*tag, value.encode(), b"\0" if tag in uid_tags else b" ")
        for tag, value in sorted(elements.items())
    )


# --- decoding -----------------------------------------------------------------


def decode_command(raw: bytes) -> dict[int, bytes]:
    elements: dict[int, bytes] = {}
    position = 0
    while position + 8 <= len(raw):
        _group, element, length = struct.unpack_from("<HHI", raw, position)
        elements[element] = raw[position + 8 : position + 8 + length]
        position += 8 + length
    return elements


def status_of(command: bytes) -> int:
    """The status in an encoded command set of a response."""
    return Response(decode_command(command)).status


def find_value(data: bytes, tag: tuple[int, int]) -> str | None:
    """A top-level element's text in an Implicit VR Little Endian data set.

    Sequences of undefined length are not expected before it.
    """
    position = 0
    while position + 8 <= len(data):
        group, element, length = struct.unpack_from("<HHI", data, position)
        if (group, element) == tag:
            return data[position + 8 : position + 8 + length].rstrip(b"\0 ").decode("ascii")
        if length == 0xFFFFFFFF:
            raise DicomError("undefined length in a query response")
        position += 8 + length
    return None


def _items(body: bytes, position: int = 0) -> Iterator[tuple[int, bytes]]:
    while position + 4 <= len(body):
        kind, length = struct.unpack_from(">BxH", body, position)
        yield kind, body[position + 4 : position + 4 + length]
        position += 4 + length


def _decode_associate_ac(body: bytes) -> tuple[dict[int, str], int]:
    """The accepted contexts (id -> transfer syntax) and the largest PDU the server takes."""
    accepted: dict[int, str] = {}
    max_pdu = 0
    for kind, value in _items(body, 68):
        if kind == 0x21 and value[2] == 0:
            accepted[value[0]] = value[8:].rstrip(b"\0 ").decode()
        elif kind == 0x50:
            sizes = [v for k, v in _items(value) if k == 0x51]
            max_pdu = struct.unpack(">I", sizes[0])[0] if sizes else 0
    return accepted, max_pdu or 131072  # 0: no limit


# --- the association ----------------------------------------------------------


@dataclass
class Association:
    """An open association. Use `open_association` and close with `release` or `close`."""

    connection: socket.socket
    reader: BinaryIO
    accepted: dict[int, str] = field(default_factory=dict)
    max_send_pdu: int = 16384

    def send(self, pdu: bytes) -> None:
        self.connection.sendall(pdu)

    def _read_exactly(self, count: int) -> bytes:
        data = self.reader.read(count)
        if len(data) != count:
            raise DicomError("connection closed by the server")
        return data

    def read_pdu(self) -> tuple[int, bytes]:
        kind, length = struct.unpack(">BxI", self._read_exactly(6))
        return kind, self._read_exactly(length)

    def read_accept(self) -> None:
        """Take the answer to an A-ASSOCIATE-RQ; anything but acceptance raises."""
        kind, body = self.read_pdu()
        if kind != PDU_ASSOCIATE_AC:
            raise DicomError(f"association not accepted: PDU type {kind} {body[:4].hex()}")
        self.accepted, self.max_send_pdu = _decode_associate_ac(body)

    def read_response(self) -> Response:
        """The next DIMSE message, from as many P-DATA-TF PDUs as it takes."""
        command, data = b"", b""
        elements: dict[int, bytes] | None = None
        while True:
            kind, body = self.read_pdu()
            if kind != PDU_DATA:
                raise DicomError(f"expected P-DATA-TF, got PDU type {kind}")
            position = 0
            while position < len(body):
                length, _context, flags = struct.unpack_from(">IBB", body, position)
                fragment = body[position + 6 : position + 4 + length]
                position += 4 + length
                if flags & 1:
                    command += fragment
                    if flags & 2:
                        elements = decode_command(command)
                        if elements[0x0800] == b"\x01\x01":
                            return Response(elements)
                else:
                    data += fragment
                    if flags & 2:
                        if elements is None:
                            raise DicomError("data set without a command set")
                        return Response(elements, data)

    def echo(self, request: bytes) -> None:
        """One C-ECHO round trip with an encoded request; anything but success raises."""
        self.connection.sendall(request)
        response = self.read_response()
        if response.command[0x0100] != b"\x30\x80" or response.status != STATUS_SUCCESS:
            raise DicomError(f"C-ECHO-RSP status {response.status:#06x}")

    def store(self, request: bytes) -> None:
        """One C-STORE round trip with an encoded request; anything but success raises."""
        self.connection.sendall(request)
        response = self.read_response()
        if response.command[0x0100] != b"\x01\x80" or response.status != STATUS_SUCCESS:
            raise DicomError(f"C-STORE-RSP status {response.status:#06x}")

    def responses(self, request: bytes) -> Iterator[Response]:
        """The responses to a C-FIND/C-MOVE request, the final one included."""
        self.connection.sendall(request)
        while True:
            response = self.read_response()
            yield response
            if response.status not in PENDING:
                return

    def release(self) -> None:
        self.connection.sendall(RELEASE_RQ)
        kind, _body = self.read_pdu()
        if kind != PDU_RELEASE_RP:
            raise DicomError(f"expected A-RELEASE-RP, got PDU type {kind}")
        self.close()

    def close(self) -> None:
        self.reader.close()
        self.connection.close()


def open_association(
    port: int, associate_rq: bytes, timeout: float = 30.0, tls: ssl.SSLContext | None = None
) -> Association:
    """Connect to 127.0.0.1:port, by TLS if given, and negotiate with an encoded A-ASSOCIATE-RQ."""
    connection = socket.create_connection(("127.0.0.1", port), timeout=timeout)
    try:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if tls is not None:
            connection = tls.wrap_socket(connection, server_hostname="127.0.0.1")
        reader = cast(BinaryIO, connection.makefile("rb", buffering=1 << 16))
        association = Association(connection, reader)
        connection.sendall(associate_rq)
        association.read_accept()
    except BaseException:
        connection.close()
        raise
    return association
