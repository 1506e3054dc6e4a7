"""Reading the PDUs of a large object several in one call to the kernel.

A sender cuts an object into fragments of one size, the last one shorter. So it is known beforehand
where each will lie in what comes: the fragments go straight to their places in the sink, the
headers between them to a small buffer beside it. What comes otherwise is given back to the socket,
for the reader of single PDUs to judge. One call serves as many PDUs as have come, so the more a
server has to do, the fewer calls each object costs. Of a sender that is slower, a fragment that has
begun is waited for as a whole.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from typing import Final

from lfscp.upperlayer.connection.transport import InlineSocket
from lfscp.upperlayer.receiving.sink import DatasetSink
from lfscp.upperlayer.wire import pdata

_P_DATA: Final = pdata.P_DATA_TF
_HEADER_BYTES: Final = pdata.HEADER.size
_MAX_PDUS: Final = 32
_MAX_BYTES: Final = 1 << 19  # in one call, so that what has come is soon written behind


class BatchEnd(Enum):
    """Why the reading of PDUs of one size ends."""

    COMPLETE = "the last fragment is in the sink"
    OTHERWISE = "what comes next is for the reader of single PDUs"


class BatchReader:
    """Reads the rest of one object, from the boundary between two PDUs.

    Args:
        sock: the association's, which `can_scatter`.
        sink: where the fragments go.
        context_id: of the message.
        size: bytes of a fragment: what the first one had.
        before_each: called before each call to the kernel; may raise.
    """

    def __init__(
        self,
        sock: InlineSocket,
        sink: DatasetSink,
        context_id: int,
        size: int,
        before_each: Callable[[], None],
    ) -> None:
        self._sock = sock
        self._sink = sink
        self._context_id = context_id
        self._size = size
        self._before_each = before_each
        self._stride = _HEADER_BYTES + size
        self._most = max(1, min(_MAX_PDUS, _MAX_BYTES // size))
        self._headers = bytearray(_HEADER_BYTES * self._most)

    def read(self, room: int | None) -> BatchEnd:
        """Read on until the object is complete or something comes that is cut otherwise.

        Args:
            room: how many bytes the object may still grow by; None is no limit.
        Raises:
            ReadTimeoutError, ConnectionLostError: as the socket does.
        """
        while True:
            most = self._most if room is None else min(self._most, room // self._size)
            places = self._sink.reserve_ahead(self._size, most)
            if not places:
                return BatchEnd.OTHERWISE
            outcome = self._read_into(places)
            if outcome is not None:
                return outcome
            if room is not None:
                room -= len(places) * self._size

    def _read_into(self, places: list[memoryview]) -> BatchEnd | None:
        """Fill the places; None when all are full and more is to come."""
        headers = memoryview(self._headers)
        layout: list[memoryview] = []
        for number, place in enumerate(places):
            layout += (headers[number * _HEADER_BYTES : (number + 1) * _HEADER_BYTES], place)
        came = full = committed = 0  # of the bytes; of the fragments; of the fragment at hand
        while full < len(places):
            self._before_each()
            count = self._sock.receive_into(_behind(layout, came))
            came += count
            before = full
            while full < len(places) and came > full * self._stride:
                start = full * self._stride
                if came < start + _HEADER_BYTES and self._may_become_a_header(full, came - start):
                    break
                size, is_last = (
                    self._fragment(full) if came >= start + _HEADER_BYTES else (0, False)
                )
                if size == 0:
                    self._give_back(layout, start, came)
                    return BatchEnd.OTHERWISE
                start += _HEADER_BYTES
                has = min(size, came - start)
                self._sink.commit(has - committed)
                if is_last or size < self._size:
                    if came > start + size:
                        self._give_back(layout, start + size, came)
                    self._complete(size - has)
                    return BatchEnd.COMPLETE if is_last else BatchEnd.OTHERWISE
                if has < size:
                    committed = has
                    if count >= self._stride:
                        break
                    # The sender is the slower one: no call for each packet of his.
                    self._complete(size - has)
                    came = start + size
                full, committed = full + 1, 0
            if full > before:
                self._sink.fragment_ends()
        return None

    def _complete(self, missing: int) -> None:
        """Wait for the rest of a fragment."""
        while missing:
            self._before_each()
            # What is behind it goes straight to its place, by the next call.
            taken = self._sock.read_some(self._sink.reserve(missing), may_read_ahead=False)
            self._sink.commit(taken)
            missing -= taken

    def _may_become_a_header(self, number: int, has: int) -> bool:
        """Whether the first bytes of a header are those of a PDU that has as many."""
        at = number * _HEADER_BYTES
        if self._headers[at] != _P_DATA:
            return False
        return has < 6 or int.from_bytes(self._headers[at + 2 : at + 6]) >= _HEADER_BYTES - 6

    def _fragment(self, number: int) -> tuple[int, bool]:
        """The size of a fragment by its header, and whether it is the last; 0: cut otherwise."""
        pdu_type, length, pdv_length, context_id, control = pdata.HEADER.unpack_from(
            self._headers, number * _HEADER_BYTES
        )
        size = pdv_length - 2
        is_alike = (
            pdu_type == _P_DATA
            and length == pdv_length + 4
            and context_id == self._context_id
            and not control & pdata.COMMAND
            and 0 < size <= self._size
        )
        return (size if is_alike else 0), bool(control & pdata.LAST)

    def _give_back(self, layout: list[memoryview], start: int, end: int) -> None:
        """Give the bytes from `start` to `end` of what came back to the socket."""
        self._sock.give_back(b"".join(layout)[start:end])


def _behind(layout: list[memoryview], count: int) -> list[memoryview]:
    """What is left to fill of a layout, behind its first bytes."""
    for number, view in enumerate(layout):
        if count < len(view):
            return [view[count:], *layout[number + 1 :]]
        count -= len(view)
    return []
