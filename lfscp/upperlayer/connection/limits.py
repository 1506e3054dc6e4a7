"""What a peer may send, and how slowly."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

MAX_MESSAGE_BYTES: Final = 1 << 26  # a film box has its picture in an N-SET


@dataclass(frozen=True, slots=True)
class ReceiveLimits:
    """Limits of what is received on one association.

    Args:
        max_object_bytes: largest data set of a C-STORE; of a larger one nothing is kept, and it is
            answered with 0xA700. 0 is no limit.
        min_bytes_per_s: slowest pace of a message, once it has lasted for the network timeout, and
            of a peer that takes what is sent, once it was waited for as long: slower peers are
            aborted. 0 is no limit.
        max_message_bytes: largest data set of any other message; the association is aborted as soon
            as one is larger.
        shortage: why a large object may not grow on the disk now, empty while it may: then nothing
            of it is kept, and it is answered with 0xA700.
        max_response_bytes: largest data set of a response, of a requestor's association; 0 is the
            limit of all messages other than C-STORE.
        max_workflow_bytes: largest data set of an N-CREATE, N-SET or N-ACTION, if that is more than
            `max_message_bytes`. What is large of it goes to a file on its way, as objects do.
    """

    max_object_bytes: int = 0
    min_bytes_per_s: int = 0
    max_message_bytes: int = MAX_MESSAGE_BYTES
    shortage: Callable[[], str] | None = None
    max_response_bytes: int = 0
    max_workflow_bytes: int = 0


NO_LIMITS = ReceiveLimits()
