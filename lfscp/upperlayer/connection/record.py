"""What the parts of one association share: its limits and times, who reads it, why it ended."""

from __future__ import annotations

import threading
import time
from typing import Final

from lfscp.upperlayer.connection.limits import NO_LIMITS, ReceiveLimits
from lfscp.upperlayer.wire.rejections import Rejection

# What a connection that had to wait for a thread has left of its time at least.
_LEAST_TIME_TO_ASK_S: Final = 1.0

_served: set[ConnectionRecord] = set()  # in this process, now


class ConnectionRecord:
    """Of one association.

    Attributes:
        limits: of what is received.
        announced_max_pdu: the Maximum Length Received that the peer was told; 0 is no limit.
        network_timeout_s: longest silence of the peer; None for no limit.
        started_at: monotonic time in seconds, of the connection.
        end_reason: why it ended, when that was not an orderly release.
        rejection: what its A-ASSOCIATE-RJ said, when it was rejected.
        reader: the identifier of the one thread that reads; None: whoever asks reads.
    """

    def __init__(self, limits: ReceiveLimits = NO_LIMITS, announced_max_pdu: int = 0) -> None:
        self.limits = limits
        self.announced_max_pdu = announced_max_pdu
        self.network_timeout_s: float | None = None
        self.started_at = time.monotonic()
        self.end_reason: str | None = None
        self.rejection: Rejection | None = None
        self.reader: int | None = None

    def begin_serving(self) -> None:
        """The calling thread reads from now on, and no other."""
        self.reader = threading.get_ident()
        _served.add(self)

    def end_serving(self) -> None:
        """The association has ended."""
        _served.discard(self)

    @property
    def is_alone(self) -> bool:
        """Whether no other association is served."""
        return len(_served) <= 1

    def reads_here(self) -> bool:
        """Whether the calling thread is one that reads the socket."""
        return self.reader is None or self.reader == threading.get_ident()

    def note_end(self, reason: str) -> None:
        """Say why it ends; the first who says so is right."""
        self.end_reason = self.end_reason or reason

    def time_to_ask_s(self, acse_timeout_s: float | None) -> float | None:
        """What is left of the ACSE timeout since the peer has connected; None for no limit."""
        if acse_timeout_s is None:
            return None
        left_s = self.started_at + acse_timeout_s - time.monotonic()
        return max(left_s, min(acse_timeout_s, _LEAST_TIME_TO_ASK_S))
