"""What the receiver of an object does: whether it is still there, and what it answers."""

from __future__ import annotations

from typing import Final, NamedTuple, cast

from pynetdicom.dimse_primitives import C_STORE

from lfscp.upperlayer.engine.association import InlineAssociation
from lfscp.upperlayer.engine.state_machine import ESTABLISHED

_WRITTEN_BYTES_PER_S: Final = 20_000_000  # by the slow disk of a receiver, before it answers


class StoreAnswer(NamedTuple):
    """What the receiver says of an object: status, and its Error Comment, empty without one."""

    status: int
    error_comment: str = ""


def has_ended(assoc: InlineAssociation) -> bool:
    """Whether the receiver has ended the association: looks at the socket, without waiting."""
    assoc.dul.look()
    if assoc.is_established and assoc.dul.state != ESTABLISHED:
        assoc._handle_no_response()
    return not assoc.is_established


def answer_of(assoc: InlineAssociation, message_id: int, size: int) -> StoreAnswer | None:
    """Wait for the answer of a receiver, which may first have to write the object to its disk.

    Args:
        size: bytes of the object.
    Returns:
        None when there was none, the association then being at its end.
    """
    timeout_s = assoc.dimse_timeout
    if timeout_s is not None:
        assoc.dimse_timeout = timeout_s + size / _WRITTEN_BYTES_PER_S
    try:
        _, response = assoc.dimse.get_msg(block=True)
    finally:
        assoc.dimse_timeout = timeout_s
    if response is None:
        assoc._handle_no_response()
        return None
    if not isinstance(response, C_STORE) or response.MessageIDBeingRespondedTo != message_id:
        assoc.end_reason = "expected the response to a C-STORE sub-operation"
        assoc.abort()
        return None
    return StoreAnswer(cast(int, response.Status), str(response.ErrorComment or ""))
