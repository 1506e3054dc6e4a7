"""Tells whether the client of a connection is too slow, by the bytes that the kernel counts."""

from __future__ import annotations

import asyncio
import socket
import struct
from dataclasses import dataclass
from typing import Final

_TCP_INFO_BYTES: Final = 136  # of linux/tcp.h, as far as the next two
_ACKNOWLEDGED_AT: Final = 120  # tcpi_bytes_acked, then tcpi_bytes_received


@dataclass(frozen=True, slots=True)
class Progress:
    """The progress of a connection at one time.

    Args:
        acknowledged: bytes that the client has received.
        received: bytes that the client has sent.
        unsent: bytes that the kernel does not take, since the client does not.
        wants_body: whether the node waits for more of a request's body.
    """

    at: float = 0.0
    acknowledged: int = 0
    received: int = 0
    unsent: int = 0
    wants_body: bool = False

    @classmethod
    def of(cls, transport: asyncio.Transport, now: float, *, wants_body: bool) -> Progress:
        """The progress of a connection by now."""
        acknowledged, received = _counts(transport.get_extra_info("socket"))
        return cls(now, acknowledged, received, transport.get_write_buffer_size(), wants_body)

    def too_slow_since(self, before: Progress, min_rate: int) -> str:
        """Why the client is too slow; "" if it is not, or if it is not the client's turn."""
        needed = min_rate * (self.at - before.at)
        if before.unsent and self.unsent:
            return "slow_reader" if self.acknowledged - before.acknowledged < needed else ""
        if before.wants_body and self.wants_body:
            return "slow_request" if self.received - before.received < needed else ""
        return ""

    def has_stood_still_since(self, before: Progress) -> bool:
        """Whether it is the client's turn, and it did nothing."""
        if self.unsent and before.unsent:
            return self.acknowledged == before.acknowledged
        return self.wants_body and before.wants_body and self.received == before.received


def _counts(sock: socket.socket) -> tuple[int, int]:
    """Bytes that the peer has acknowledged and sent, by the kernel's count."""
    try:
        info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO_BYTES)
        acknowledged, received = struct.unpack_from("=QQ", info, _ACKNOWLEDGED_AT)
    except (OSError, struct.error):  # it is closed
        return 0, 0
    return acknowledged, received
