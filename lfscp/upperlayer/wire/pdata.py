"""Cutting messages into P-DATA-TF PDUs: one PDV a PDU, as large as the peer takes.

Bytes only: no socket, no pynetdicom. Layout: PS3.8 section 9.3.5 and annex E.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Final

P_DATA_TF: Final = 0x04
COMMAND: Final = 0x01
LAST: Final = 0x02

# One PDU header and one PDV header: type, reserved, PDU length, PDV length, context ID, control.
HEADER: Final = struct.Struct(">BxIIBB")
PDU_HEADER: Final = struct.Struct(">BxI")
PDV_HEADER: Final = struct.Struct(">IBB")
# Sent to a peer without a limit (0, PS3.8 section D.1): large enough to cost nothing, small enough
# to look for a C-CANCEL in between.
UNLIMITED_FRAGMENT_BYTES: Final = 1 << 20
SMALLEST_MAXIMUM_LENGTH: Final = 8
SMALL_BYTES: Final = 4096  # cheaper copied than gathered


def fragment_bytes(maximum_length: int) -> int:
    """How many bytes of a message fit in one PDU, an even number.

    Args:
        maximum_length: the peer's Maximum Length Received: the PDV list in bytes, 0 for no limit.
    Raises:
        ValueError: the limit leaves no room for a fragment.
    Source: PS3.8 sections D.1 and E.1.
    """
    if maximum_length == 0:
        return UNLIMITED_FRAGMENT_BYTES
    if maximum_length < SMALLEST_MAXIMUM_LENGTH:
        raise ValueError(f"maximum PDU length {maximum_length} leaves no room for a fragment")
    return min(maximum_length - PDV_HEADER.size, UNLIMITED_FRAGMENT_BYTES) & ~1


def header(context_id: int, control: int, size: int) -> bytes:
    """The 12 bytes before a fragment of `size` bytes."""
    return HEADER.pack(P_DATA_TF, size + PDV_HEADER.size, size + 2, context_id, control)


def cut(size: int, limit: int) -> Iterator[tuple[int, int, bool]]:
    """Cut `size` bytes into fragments: (offset, length, whether it is the last)."""
    offset = 0
    while True:
        length = min(limit, size - offset)
        last = offset + length >= size
        yield offset, length, last
        if last:
            return
        offset += length


def pack(
    context_id: int, body: bytes | memoryview, kind: int, maximum_length: int
) -> list[bytes | memoryview]:
    """The PDUs of one command or data set, as buffers for a gathering send.

    Args:
        kind: `COMMAND`, or 0 for a data set.
    """
    limit = fragment_bytes(maximum_length)
    size = len(body)
    if size <= min(limit, SMALL_BYTES):
        return [header(context_id, kind | LAST, size) + body]
    buffers: list[bytes | memoryview] = []
    view = memoryview(body)
    for offset, length, last in cut(size, limit):
        buffers.append(header(context_id, kind | (LAST if last else 0), length))
        buffers.append(view[offset : offset + length])
    return buffers
