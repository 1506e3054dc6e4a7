"""Queries a peer by C-FIND (PS3.4 section C.4.1)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from pydicom.dataset import Dataset
from pynetdicom import build_context
from pynetdicom.dimse_primitives import C_FIND

from lfscp.scu.connection import NEVER, Flag, association
from lfscp.scu.errors import PeerError, PeerErrorKind, TooManyMatchesError
from lfscp.scu.identifiers import FIND_MODELS, decoded, require_few_elements
from lfscp.scu.peer import Peer
from lfscp.services.contexts import UNCOMPRESSED
from lfscp.services.status import CANCELLED, SUCCESS, error_comment
from lfscp.upperlayer.scu.asking import Answer, Operation, UnansweredError

_KEPT_OF_A_MATCH_BYTES: Final = 300  # about what is kept of one beside its values
MAX_UNTOLD_BYTES: Final = 8_000_000  # of matches that only serve to find out what to ask for


def find(
    peer: Peer,
    identifier: Dataset,
    model: str = "study",
    *,
    cancel: Flag = NEVER,
    max_bytes: int | None = None,
) -> Iterator[Dataset]:
    """Query a peer; gives its matches as they come.

    Args:
        identifier: the keys, Query/Retrieve Level among them.
        model: "study" or "patient".
        cancel: once set, a C-CANCEL goes out and no further match is given; if the peer goes on,
            the association ends. Closing the iterator aborts the association.
        max_bytes: limit of all matches together, for callers that keep part of each.
    Raises:
        GivenUpError: it was cancelled before there was an association.
        PeerError: the peer cannot be reached, refuses, or sends more than `max_bytes`.
    """
    operation: Operation | None = None
    size = 0

    def look() -> None:
        if operation is not None:
            operation.look_for_cancel()

    contexts = [build_context(FIND_MODELS[model], list(UNCOMPRESSED[:2]))]
    service = f"queries ({model} root)"
    with association(peer, contexts, service=service, cancel=cancel, while_waiting=look) as assoc:
        context = assoc.accepted_contexts[0]
        operation = Operation(assoc, C_FIND, context, identifier, wants_cancel=cancel.is_set)
        try:
            for answer in operation.answers():
                if answer.is_pending and not operation.is_cancelled:
                    if answer.identifier is not None:
                        size += len(answer.identifier) + _KEPT_OF_A_MATCH_BYTES
                        if max_bytes is not None and size > max_bytes:
                            raise TooManyMatchesError(peer, max_bytes)
                        syntax = context.transfer_syntax[0]
                        require_few_elements(answer.identifier, syntax)
                        yield decoded(answer.identifier, syntax)
                elif not answer.is_pending:
                    require_success(peer, "the query", answer)
        except UnansweredError as error:
            raise unanswered(peer, error) from None
        except ValueError as error:
            raise PeerError(PeerErrorKind.REFUSED, peer, f"sent {error}") from None


def is_failure(status: int) -> bool:
    """Whether a final status is a failure: no success, no warning, not cancelled."""
    return status not in (SUCCESS, CANCELLED) and status & 0xF000 != 0xB000


def require_success(peer: Peer, what: str, answer: Answer) -> None:
    """Accept a final response that is no failure.

    Raises:
        PeerError: it is one; with the peer's own words if it gave any.
    """
    if not is_failure(answer.status):
        return
    words = error_comment(answer.error_comment)  # which may not steer a terminal
    comment = f": {words}" if words else ""
    reason = f"refused {what} with status 0x{answer.status:04X}{comment}"
    passing = answer.status & 0xFF00 == 0xA700  # out of resources
    raise PeerError(PeerErrorKind.REFUSED, peer, reason, status=answer.status, passing=passing)


def unanswered(peer: Peer, error: UnansweredError) -> PeerError:
    """The same error as one of the peer."""
    kind = PeerErrorKind.TIMED_OUT if error.timed_out else PeerErrorKind.ABORTED
    return PeerError(kind, peer, error.reason)
