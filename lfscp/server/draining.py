"""Which associations a draining server aborts early, and how long the others may go on.

A peer that has asked nothing for a second only holds up the end. So does one that stopped in
mid-message and has sent no byte for some seconds, or has taken none of what it asked for. What runs
goes on until shortly before the end of the drain: the rest of it is for those that must be aborted,
so that all end within it.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Final

from lfscp.upperlayer.scp.association import AcceptorAssociation

IDLE_BEFORE_ABORT_S: Final = 1.0
SILENT_BEFORE_ABORT_S: Final = 3.0
_TIME_TO_ABORT_S: Final = 4.0  # of which the peers get one second to close the connection
_LEAST_TO_END_S: Final = 2.0
_SHARE_TO_GO_ON: Final = 0.8
_SEND_S: Final = 0.2


def time_to_go_on_s(drain_timeout_s: float) -> float:
    """How much of a drain is for associations to go on; then they are aborted."""
    return max(drain_timeout_s - _TIME_TO_ABORT_S, _SHARE_TO_GO_ON * drain_timeout_s)


def time_to_end_s(left_s: float) -> float:
    """How long to wait for those that were aborted, when so much of the drain is left."""
    return max(left_s, _LEAST_TO_END_S)


def abort_all(associations: Iterable[AcceptorAssociation]) -> None:
    """Abort associations without waiting for any peer: who takes no answer is cut off."""
    deadline = time.monotonic() + _SEND_S
    for association in associations:
        association.abort_within(max(0.0, deadline - time.monotonic()), "aborted by the server")


class Silence:
    """Tells who may be aborted; asked about once a second."""

    def __init__(self) -> None:
        # What came and what was taken, and since when.
        self._heard: dict[AcceptorAssociation, tuple[tuple[int, int], float]] = {}

    def reason_to_abort(self, association: AcceptorAssociation) -> str | None:
        """Why not to wait for an association; None while it is worth waiting for."""
        if association.idle_s() >= IDLE_BEFORE_ABORT_S:
            return "idle while the server was stopping"
        now = time.monotonic()
        progress = association.reads, association.bytes_taken
        before, since = self._heard.get(association, (progress, now))
        is_blocked = association.takes_nothing
        if progress != before or not (is_blocked or association.is_in_mid_message):
            since = now
        self._heard[association] = progress, since
        if now - since < SILENT_BEFORE_ABORT_S:
            return None
        if is_blocked:
            return "not reading while the server was stopping"
        return "silent in mid-message while the server was stopping"
