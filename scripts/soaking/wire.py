"""A soak's clients, made of bytes: they cost little, and share no code with the server.

Objects are made from a few numbers, so that a journal need not keep them to compare them byte for
byte when they come back.
"""

from __future__ import annotations

import random
import struct
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.support import dicom_peer as peer

CT = peer.CT
STUDY_ROOT_FIND = "1.2.840.10008.5.1.4.1.2.2.1"
STUDY_ROOT_MOVE = "1.2.840.10008.5.1.4.1.2.2.2"
STUDY_ROOT_GET = "1.2.840.10008.5.1.4.1.2.2.3"
C_GET, C_MOVE, RESPONSE = 0x0010, 0x0021, 0x8000
SUCCESS, PENDING = 0x0000, (0xFF00, 0xFF01)
ECHO_ID, STORE_ID, FIND_ID, MOVE_ID, GET_ID = 1, 3, 5, 7, 9
ROOT = "1.2.826.0.1.3680043.9.7433"
MAX_PDU = 131072
_PIXELS = random.Random(7433).randbytes(9_000_000)


@dataclass(frozen=True, slots=True)
class Instance:
    """One object, in the numbers that it is made of."""

    modality: int
    study: int
    number: int
    size: int

    @property
    def study_uid(self) -> str:
        """Of its study, which holds one series."""
        return f"{ROOT}.{self.modality + 1}.{self.study + 1}"

    @property
    def uid(self) -> str:
        """Its SOP Instance UID."""
        return f"{self.study_uid}.1.{self.number + 1}"

    def pixels(self) -> memoryview:
        """Other bytes for each object."""
        begin = (self.modality * 7919 + self.study * 104_729 + self.number * 1_299_709) % 2_000_000
        return memoryview(_PIXELS)[begin : begin + self.size]

    def head(self) -> bytes:
        """The dataset up to its pixels, in Implicit VR Little Endian."""
        return b"".join(
            (
                _text(0x0008, 0x0016, CT),
                _text(0x0008, 0x0018, self.uid),
                _text(0x0008, 0x0020, f"2024{self.study % 12 + 1:02}01"),
                _text(0x0008, 0x0060, "CT"),
                _text(0x0010, 0x0010, f"Soak^Modality{self.modality}"),
                _text(0x0010, 0x0020, f"S{self.modality}"),
                _text(0x0020, 0x000D, self.study_uid),
                _text(0x0020, 0x000E, f"{self.study_uid}.1"),
                _text(0x0020, 0x0013, str(self.number + 1)),
                struct.pack("<HHI", 0x7FE0, 0x0010, self.size),
            )
        )

    def is_in(self, dataset: bytes) -> bool:
        """Whether these bytes are the object's, every one."""
        head = self.head()
        size = len(head) + self.size
        return len(dataset) == size and dataset[: len(head)] == head and self.ends(dataset)

    def ends(self, dataset: bytes) -> bool:
        """Whether its pixels come back; some servers write the elements before them anew."""
        return memoryview(dataset)[-self.size :] == self.pixels()


def _text(group: int, element: int, value: str) -> bytes:
    encoded = value.encode()
    if len(encoded) % 2:
        encoded += b"\0" if value[0].isdigit() and "." in value else b" "
    return struct.pack("<HHI", group, element, len(encoded)) + encoded


def identifier(level: str, **keys: str) -> bytes:
    """A query's keys: study, series and instance, as far as they are given."""
    numbers = {"study": 0x000D, "series": 0x000E}
    encoded = _text(0x0008, 0x0018, keys["instance"]) if "instance" in keys else b""
    encoded += _text(0x0008, 0x0052, level)
    return encoded + b"".join(
        _text(0x0020, numbers[name], value) for name, value in keys.items() if name in numbers
    )


def request(field: int, sop_class: str, message_id: int = 1, destination: str = "") -> bytes:
    """The command set of a C-FIND, C-MOVE or C-GET."""
    moved = [peer.element(0x0600, destination.ljust(16).encode())] if destination else []
    return peer.command(
        peer.uid(0x0002, sop_class),
        peer.us(0x0100, field),
        peer.us(0x0110, message_id),
        *moved,
        peer.us(0x0700, 0),
        peer.us(0x0800, peer.DATA_SET),
    )


def store_response(elements: dict[int, bytes], status: int) -> bytes:
    """The answer to a C-STORE that a server sent."""
    return peer.command(
        peer.element(0x0002, elements[0x0002]),
        peer.us(0x0100, peer.C_STORE | RESPONSE),
        peer.us(0x0120, int.from_bytes(elements[0x0110], "little")),
        peer.us(0x0800, peer.NO_DATA_SET),
        peer.us(0x0900, status),
        peer.element(0x1000, elements[0x1000]),
    )


def number_in(elements: dict[int, bytes], element: int) -> int:
    """A US element of a command set; 0 when it is absent."""
    return int.from_bytes(elements.get(element, b""), "little")


class Lost(Exception):  # noqa: N818 - what happened
    """The association ended before the answer."""


class Client(peer.Peer):
    """An association; raises OSError or Lost when the server goes away.

    Args:
        port: of the server, on this machine.
        title: its AE title.
    """

    def __init__(self, port: int, title: str, timeout: float = 60.0) -> None:
        super().__init__(("127.0.0.1", port), timeout, nagle=False)
        self._title = title

    def open(self) -> None:
        """Associate: echo, store, find, move, get."""
        syntaxes = (peer.IMPLICIT,)
        contexts = [
            (ECHO_ID, peer.VERIFICATION, syntaxes),
            (STORE_ID, CT, syntaxes),
            (FIND_ID, STUDY_ROOT_FIND, syntaxes),
            (MOVE_ID, STUDY_ROOT_MOVE, syntaxes),
            (GET_ID, STUDY_ROOT_GET, syntaxes),
        ]
        role = peer.item(0x54, struct.pack(">H", len(CT)) + CT.encode() + b"\1\1")
        self.send(
            peer.associate_rq(
                contexts,
                called=self._title,
                calling="SOAK",
                max_length=MAX_PDU,
                user_items=role,
            )
        )
        answer = self.pdu()
        if answer is None or answer[0] != peer.ASSOCIATE_AC:
            raise Lost(f"no association: {answer and answer[0]}")

    def close(self) -> None:
        """Release, as far as there is somebody to hear it."""
        self.send(peer.RELEASE)
        self.pdu()
        self.sock.close()

    def next_message(self) -> tuple[int, dict[int, bytes], bytes | None]:
        """The next message: context ID, command elements, data set or None."""
        command, data = b"", []
        elements: dict[int, bytes] = {}
        while True:
            answer = self.pdu()
            if answer is None or answer[1] is None:
                raise Lost("the connection was closed")
            if answer[0] != peer.P_DATA:
                raise Lost(f"a PDU of type {answer[0]} instead of an answer")
            body, at = answer[1], 0
            while at < len(body):
                length, context_id, control = struct.unpack_from(">IBB", body, at)
                fragment = body[at + 6 : at + 4 + length]
                at += 4 + length
                if control & peer.COMMAND:
                    command += fragment
                    if control & peer.LAST:
                        elements = peer.read_command(command)
                else:
                    data.append(fragment)
                has_data = number_in(elements, 0x0800) != peer.NO_DATA_SET
                if control & peer.LAST and not (control & peer.COMMAND and has_data):
                    return context_id, elements, b"".join(data) if has_data else None

    def _exactly(self, size: int) -> bytes | None:
        data = bytearray(size)
        view, position = memoryview(data), 0
        while position < size:
            count = self.sock.recv_into(view[position:])
            if count == 0:
                return None
            position += count
        return bytes(data)

    def store(self, instance: Instance) -> int:
        """Send one object: the status of the answer."""
        command = peer.store_rq(1, instance.uid)
        head, pixels = instance.head(), instance.pixels()
        room = MAX_PDU - 6
        parts: list[bytes | memoryview] = [
            peer.p_data(peer.pdv(STORE_ID, peer.COMMAND | peer.LAST, command))
        ]
        first = min(room - len(head), len(pixels))
        last = peer.LAST if first == len(pixels) else 0
        size = len(head) + first
        parts += [struct.pack(">BxIIBB", 4, size + 6, size + 2, STORE_ID, last), head]
        parts.append(pixels[:first])
        for at in range(first, len(pixels), room):
            piece = pixels[at : at + room]
            last = peer.LAST if at + room >= len(pixels) else 0
            parts.append(struct.pack(">BxIIBB", 4, len(piece) + 6, len(piece) + 2, STORE_ID, last))
            parts.append(piece)
        self.sock.sendall(b"".join(parts))
        return number_in(self.next_message()[1], 0x0900)

    def ask_for_echo(self) -> None:
        """Send a C-ECHO and wait for its answer."""
        self.send(peer.message(ECHO_ID, peer.echo_rq()))
        self.next_message()

    def find(self, level: str, **keys: str) -> list[bytes]:
        """The identifiers of all matches."""
        keys_of = identifier(level, **keys)
        self.send(peer.message(FIND_ID, request(peer.C_FIND, STUDY_ROOT_FIND), keys_of))
        matches = []
        while True:
            _, elements, data = self.next_message()
            if number_in(elements, 0x0900) not in PENDING:
                return matches
            matches.append(data or b"")

    def move(self, study_uid: str, destination: str) -> tuple[int, int]:
        """Have a study sent elsewhere: the last status, and how many were completed."""
        self.send(
            peer.message(
                MOVE_ID,
                request(C_MOVE, STUDY_ROOT_MOVE, destination=destination),
                identifier("STUDY", study=study_uid),
            )
        )
        while True:
            _, elements, _ = self.next_message()
            status = number_in(elements, 0x0900)
            if status not in PENDING:
                return status, number_in(elements, 0x1021)

    def get(self, study_uid: str) -> Iterator[tuple[str, bytes]]:
        """A study's objects: UID and dataset of each.

        Raises:
            Lost: the last response is no success.
        """
        self.send(
            peer.message(
                GET_ID, request(C_GET, STUDY_ROOT_GET), identifier("STUDY", study=study_uid)
            )
        )
        while True:
            context_id, elements, data = self.next_message()
            if number_in(elements, 0x0100) == peer.C_STORE:
                yield elements[0x1000].decode().strip("\0 "), data or b""
                self.send(peer.message(context_id, store_response(elements, SUCCESS)))
                continue
            status = number_in(elements, 0x0900)
            if status in PENDING:
                continue
            if status != SUCCESS:
                raise Lost(f"C-GET ended with 0x{status:04X}")
            return


def accept_rq(request_pdu: bytes) -> bytes:
    """An A-ASSOCIATE-AC that takes each proposed context in its first transfer syntax."""
    body = request_pdu[:68]
    position = 68
    results = b""
    while position < len(request_pdu):
        kind, length = struct.unpack_from(">BxH", request_pdu, position)
        value = request_pdu[position + 4 : position + 4 + length]
        position += 4 + length
        if kind == 0x20:
            at = 4
            while at < len(value):
                inner, size = struct.unpack_from(">BxH", value, at)
                if inner == 0x40:
                    results += peer.item(
                        0x21, value[:1] + b"\0\0\0" + peer.item(0x40, value[at + 4 : at + 4 + size])
                    )
                    break
                at += 4 + size
    user = peer.item(0x51, struct.pack(">I", MAX_PDU)) + peer.item(0x52, b"1.2.826.0.1.99")
    context = peer.item(0x10, peer.APPLICATION_CONTEXT.encode())
    return peer.pdu(peer.ASSOCIATE_AC, body + context + results + peer.item(0x50, user))
