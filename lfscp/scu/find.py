"""C-FIND: what a peer has (PS3.4 section C.4.1)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from pydicom.dataset import Dataset
from pynetdicom import build_context
from pynetdicom.dimse_primitives import C_FIND

from lfscp.scu.connection import Flag, association
from lfscp.scu.errors import Kind, PeerError
from lfscp.scu.identifiers import FIND_MODELS, decoded
from lfscp.scu.peer import Peer
from lfscp.services.contexts import UNCOMPRESSED
from lfscp.upperlayer.asking import Answer, Operation, Unanswered

_SUCCESS: Final = 0x0000
_CANCELLED: Final = 0xFE00


def find(
    peer: Peer,
    identifier: Dataset,
    model: str = "study",
    *,
    cancel: Flag | None = None,
) -> Iterator[Dataset]:
    """Ask a peer, and give its matches as they come.

    Args:
        identifier: the keys, Query/Retrieve Level among them.
        model: "study" or "patient".
        cancel: once set a C-CANCEL goes out; what still comes is not given any more. Closing the
            iterator aborts the association.
    Raises:
        GivenUp: it was cancelled before there was an association.
        PeerError: the peer cannot be reached, or refuses.
    """
    operation: Operation | None = None

    def look() -> None:
        if operation is not None:
            operation.look_for_cancel()

    contexts = [build_context(FIND_MODELS[model], list(UNCOMPRESSED[:2]))]
    service = f"queries ({model} root)"
    with association(peer, contexts, service=service, cancel=cancel, while_waiting=look) as assoc:
        context = assoc.accepted_contexts[0]
        wanted = cancel.is_set if cancel is not None else lambda: False
        operation = Operation(assoc, C_FIND, context, identifier, wants_cancel=wanted)
        try:
            for answer in operation.answers():
                if answer.is_pending and not operation.is_cancelled:
                    if answer.identifier is not None:
                        yield decoded(answer.identifier, context.transfer_syntax[0])
                elif not answer.is_pending:
                    require_success(peer, "the query", answer)
        except Unanswered as error:
            raise unanswered(peer, error) from None
        except ValueError as error:
            raise PeerError(Kind.REFUSED, peer, f"sent {error}") from None


def require_success(peer: Peer, what: str, answer: Answer) -> None:
    """See whether a final response is no failure.

    Raises:
        PeerError: it is; with the peer's own words if it gave any.
    """
    if answer.status in (_SUCCESS, _CANCELLED) or answer.status & 0xF000 == 0xB000:
        return
    comment = f": {answer.error_comment}" if answer.error_comment else ""
    reason = f"refused {what} with status 0x{answer.status:04X}{comment}"
    passing = answer.status & 0xFF00 == 0xA700  # out of resources
    raise PeerError(Kind.REFUSED, peer, reason, status=answer.status, passing=passing)


def unanswered(peer: Peer, error: Unanswered) -> PeerError:
    """The same in terms of the peer."""
    return PeerError(Kind.TIMED_OUT if error.timed_out else Kind.ABORTED, peer, error.reason)
