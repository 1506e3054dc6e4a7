"""Asks a peer to commit to instances that it has, and takes its report where it comes here.

A peer reports on the association that it was asked on while that is open, or on one that it opens
to our AE title. The first is served here, for as long as the caller wants to wait; the second needs
somebody who listens: a node, or a command of its own.
Source: PS3.4 annex J.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, cast

from pydicom.dataset import Dataset
from pynetdicom import build_context, evt

from lfscp.archive.workflow.commitment.references import Reference, tree_of_references
from lfscp.dicom.models.element_tree import dataset_of
from lfscp.scu.connection import NEVER, Flag, association
from lfscp.scu.errors import GivenUpError, PeerError, PeerErrorKind, UnsupportedError
from lfscp.scu.peer import Peer
from lfscp.services import status
from lfscp.services.commitment.n_event_report import Keep, take_report
from lfscp.services.commitment.report import STORAGE_COMMITMENT_INSTANCE
from lfscp.services.contexts import STORAGE_COMMITMENT, UNCOMPRESSED
from lfscp.upperlayer.engine.association import InlineAssociation
from lfscp.upperlayer.scu.event_reports import serve_until

SERVICE: Final = "Storage Commitment"
# Of one request. Peers have to hold all of them, and some to look for each, before they answer.
MAX_INSTANCES: Final = 2000
MAX_REPORT_BYTES: Final = 4 << 20  # up to 180 bytes for each of its instances
_REQUEST_COMMITMENT: Final = 1  # the only action type


@dataclass(frozen=True, slots=True)
class Question:
    """One request: what a peer is asked to commit to under one Transaction UID."""

    transaction_uid: str
    references: Sequence[Reference]


def portions(references: Sequence[Reference]) -> Iterator[Sequence[Reference]]:
    """The instances in portions that peers take in one request."""
    for start in range(0, len(references), MAX_INSTANCES):
        yield references[start : start + MAX_INSTANCES]


def ask(
    peer: Peer,
    question: Question,
    *,
    keep: Keep,
    is_enough: Callable[[], bool],
    wait_s: float,
    on_asked: Callable[[], None] = lambda: None,
    cancel: Flag = NEVER,
) -> None:
    """Ask a peer, and keep the association open for its report.

    Each question has an association of its own: a peer's report on one would cross with the next
    question, which not all peers stand.

    Args:
        keep: keeps a report that comes on this association.
        is_enough: whether to wait no longer; asked about once a second.
        wait_s: how long to wait for the report.
        on_asked: called once the peer has taken the question.
        cancel: once set, the wait ends.
    Raises:
        GivenUpError: it was cancelled before the peer had taken the question.
        UnsupportedError: the peer has no storage commitment.
        PeerError: it cannot be reached, or refuses.
    """

    def handle_report(event: evt.Event) -> tuple[Any, None]:
        return take_report(event, keep), None

    contexts = [build_context(STORAGE_COMMITMENT, list(UNCOMPRESSED[:2]))]
    with association(
        peer,
        contexts,
        service=SERVICE,
        evt_handlers=[(evt.EVT_N_EVENT_REPORT, handle_report)],
        cancel=cancel,
        max_response_bytes=MAX_REPORT_BYTES,
    ) as assoc:
        _ask(assoc, peer, question, cancel)
        on_asked()
        serve_until(assoc, lambda: cancel.is_set() or is_enough(), wait_s)


def _ask(assoc: InlineAssociation, peer: Peer, question: Question, cancel: Flag) -> None:
    try:
        answer, _ = assoc.send_n_action(
            _action_information(question),
            _REQUEST_COMMITMENT,
            STORAGE_COMMITMENT,
            STORAGE_COMMITMENT_INSTANCE,
            msg_id=assoc.next_message_id(),
        )
    except ValueError:  # pynetdicom: the context was not accepted
        raise UnsupportedError(peer, SERVICE) from None
    code = answer.get("Status")
    if code is None:
        raise _unanswered(assoc, peer, cancel)
    if not status.is_success(code):
        comment = str(answer.get("ErrorComment") or "")
        reason = f"refused to commit: status 0x{code:04X}{f', {comment}' if comment else ''}"
        raise PeerError(PeerErrorKind.REFUSED, peer, reason, status=cast(int, code))


def _unanswered(assoc: InlineAssociation, peer: Peer, cancel: Flag) -> PeerError:
    if cancel.is_set():
        return GivenUpError(peer)
    if assoc.end_reason or assoc.is_aborted:
        why = f" ({assoc.end_reason})" if assoc.end_reason else ""
        return PeerError(PeerErrorKind.ABORTED, peer, f"ended the association{why}")
    reason = f"did not answer the N-ACTION within {peer.dimse_timeout_s:g} s"
    return PeerError(PeerErrorKind.TIMED_OUT, peer, reason)


def _action_information(question: Question) -> Dataset:
    named = dataset_of(tree_of_references(question.transaction_uid, question.references))
    del named.SpecificCharacterSet  # there are UIDs alone
    return named
