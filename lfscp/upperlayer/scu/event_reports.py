"""Waits on an association of ours for what the peer reports of its own accord.

A peer that performs an operation later reports its end by an N-EVENT-REPORT, on the association
that the operation was asked on while that is open (PS3.7 section 10.1.1). Driven by the calling
thread, which reads the socket.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from pynetdicom import evt

from lfscp.upperlayer.connection.errors import ReadTimeoutError
from lfscp.upperlayer.engine.association import InlineAssociation

_LOOK_EVERY_S: Final = 1.0


def serve_until(
    assoc: InlineAssociation, is_enough: Callable[[], bool], timeout_s: float | None
) -> bool:
    """Serve what the peer asks of us, by the association's handlers, until that is enough.

    Args:
        assoc: nothing else goes on on it.
        is_enough: asked before each wait, about once a second.
        timeout_s: the longest wait; None for none.
    Returns:
        Whether it was enough; else the time is over, or the association has ended.
    """
    deadline = float("inf") if timeout_s is None else time.monotonic() + timeout_s
    while not is_enough():
        left_s = deadline - time.monotonic()
        if left_s <= 0:
            return False
        if assoc.receiver.requests:
            assoc.serve_next()
            continue
        if _has_ended(assoc):
            return is_enough()
        if assoc.receiver.requests:  # came while that was looked for
            continue
        try:
            assoc.dul.read_pdu(min(left_s, _LOOK_EVERY_S))
        except ReadTimeoutError:
            continue
    return True


def _has_ended(assoc: InlineAssociation) -> bool:
    """Whether the peer has ended it; its release is answered.

    Relied on: `_sent_release`, which pynetdicom's ACSE sets, and its own way to answer a release.
    """
    if not assoc.is_established:
        return True
    if assoc.acse.is_release_requested():
        assoc.acse.send_release(is_response=True)
        assoc.is_released = True
        assoc.is_established = False
        evt.trigger(assoc, evt.EVT_RELEASED, {})
        assoc.kill()
        return True
    if not assoc.dul.is_alive() or not assoc.dul.to_user_queue.empty():
        assoc._handle_no_response()
        return True
    return False
