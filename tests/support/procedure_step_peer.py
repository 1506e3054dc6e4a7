"""A modality made of bytes, which sends N-CREATE, N-SET and N-GET that no toolkit would."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from tests.support import dicom_peer as raw
from tests.support.procedure_steps import MPPS, MPPS_RETRIEVE

N_GET, N_SET, N_CREATE = 0x0110, 0x0120, 0x0140
_AFFECTED, _REQUESTED = (0x0002, 0x1000), (0x0003, 0x1001)
_CONTEXT_ID = 1
_FRAGMENT = 16_000  # bytes


class Response(NamedTuple):
    """A response: its status, the other elements of its command set, its data set."""

    status: int
    elements: dict[int, bytes]
    data: bytes | None

    def text(self, element: int) -> str:
        return self.elements.get(element, b"").rstrip(b"\0 ").decode("ascii")

    @property
    def comment(self) -> str:
        return self.text(0x0902)

    @property
    def error_id(self) -> int | None:
        found = self.elements.get(0x0903)
        return None if found is None else int.from_bytes(found, "little")

    @property
    def tags(self) -> list[int]:
        """Attribute Identifier List."""
        pairs = struct.iter_unpack("<HH", self.elements.get(0x1005, b""))
        return [group << 16 | element for group, element in pairs]


class Modality:
    """An association with one presentation context, of either class."""

    def __init__(self, peer: raw.Peer, sop_class: str) -> None:
        self.peer = peer
        self._sop_class = sop_class
        self._message_id = 0

    def ask(
        self,
        operation: int,
        uid: str = "",
        data: bytes | None = None,
        *,
        sop_class: str = "",
        tags: tuple[int, ...] = (),
    ) -> Response:
        """Send a request, of any operation, with these bytes: its response."""
        self._message_id += 1
        class_element, instance_element = _AFFECTED if operation == N_CREATE else _REQUESTED
        parts = [
            raw.uid(class_element, sop_class or self._sop_class),
            raw.us(0x0100, operation),
            raw.us(0x0110, self._message_id),
            raw.us(0x0800, raw.NO_DATA_SET if data is None else raw.DATA_SET),
        ]
        if uid:
            parts.append(raw.uid(instance_element, uid))
        if tags:
            pairs = b"".join(struct.pack("<HH", tag >> 16, tag & 0xFFFF) for tag in tags)
            parts.append(raw.element(0x1005, pairs))
        self.peer.send(raw.message(_CONTEXT_ID, raw.command(*parts)))
        if data is not None:
            self.peer.send(*_fragments(data))
        _, elements, reply = self.peer.message()
        return Response(int.from_bytes(elements[0x0900], "little"), elements, reply)


def _fragments(data: bytes) -> Iterator[bytes]:
    for start in range(0, len(data) or 1, _FRAGMENT):
        is_last = start + _FRAGMENT >= len(data)
        control = raw.DATA | (raw.LAST if is_last else 0)
        yield raw.p_data(raw.pdv(_CONTEXT_ID, control, data[start : start + _FRAGMENT]))


@contextmanager
def modality(
    port: int,
    *,
    sop_class: str = MPPS,
    transfer_syntax: str = raw.EXPLICIT,
    calling: str = "CT01",
) -> Iterator[Modality]:
    """Associate, and release at the end."""
    with raw.Peer(("127.0.0.1", port)) as peer:
        context = (_CONTEXT_ID, sop_class, (transfer_syntax,))
        answer = peer.associate([context], calling=calling)
        assert b"\x21\x00" in answer  # a context was answered
        yield Modality(peer, sop_class)
        peer.release()


__all__ = ["MPPS", "MPPS_RETRIEVE", "N_CREATE", "N_GET", "N_SET", "Modality", "modality"]
