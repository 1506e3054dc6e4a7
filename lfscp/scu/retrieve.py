"""C-GET and C-MOVE: have a peer send objects, here or elsewhere (PS3.4 sections C.4.2, C.4.3)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from pydicom.dataset import Dataset
from pynetdicom import build_context, evt
from pynetdicom.dimse_primitives import C_GET, C_MOVE
from pynetdicom.pdu_primitives import SCP_SCU_RoleSelectionNegotiation
from pynetdicom.presentation import PresentationContext

from lfscp.archive.objects import Received
from lfscp.scu.connection import Flag, association
from lfscp.scu.errors import Unsupported
from lfscp.scu.find import require_success, unanswered
from lfscp.scu.identifiers import GET_MODELS, MOVE_MODELS, decoded
from lfscp.scu.peer import Peer
from lfscp.scu.proposals import get_proposals
from lfscp.services.contexts import UNCOMPRESSED
from lfscp.services.received import received_object
from lfscp.upperlayer.asking import Answer, Operation, Unanswered

_CANCELLED: Final = 0xFE00


@dataclass(frozen=True, slots=True)
class RetrieveProgress:
    """The counters of a pending response; None where the peer does not say."""

    remaining: int | None
    completed: int
    failed: int
    warning: int


@dataclass(frozen=True, slots=True)
class RetrieveResult:
    """How a retrieve ended: success, in part (`failed`), or cancelled.

    Args:
        failed_uids: SOP Instance UIDs that the peer could not send, as far as it says.
        comment: the peer's own words, if any.
    """

    status: int
    completed: int = 0
    failed: int = 0
    warning: int = 0
    failed_uids: tuple[str, ...] = ()
    comment: str = ""

    @property
    def is_cancelled(self) -> bool:
        """Whether it stopped at a C-CANCEL."""
        return self.status == _CANCELLED


OnObject = Callable[[Received], int | Dataset]
OnProgress = Callable[[RetrieveProgress], None]


def get(
    peer: Peer,
    identifier: Dataset,
    *,
    on_object: OnObject,
    model: str = "study",
    sop_classes: Sequence[str] = (),
    progress: OnProgress | None = None,
    cancel: Flag | None = None,
    spool_dir: Path | None = None,
) -> RetrieveResult:
    """Have a peer send objects over this association.

    Args:
        identifier: unique keys and Query/Retrieve Level.
        on_object: gets each object while it lasts; gives the C-STORE's status.
        sop_classes: those that are to be expected; empty when that is not known. With them every
            transfer syntax gets a context of its own, so that objects come as they are stored.
        progress: called with each pending response's counters.
        cancel: once set a C-CANCEL goes out.
        spool_dir: where large objects go as they arrive; None keeps them in memory.
    Raises:
        GivenUp: it was cancelled before there was an association.
        Unsupported: the peer has no C-GET.
        PeerError: it cannot be reached, or refuses.
    """

    def store(event: evt.Event) -> int | Dataset:
        return on_object(received_object(event, peer.ae_title))

    proposals = get_proposals(sop_classes)
    contexts = [build_context(GET_MODELS[model], list(UNCOMPRESSED[:2]))]
    contexts += [build_context(uid, list(syntaxes)) for uid, syntaxes in proposals]
    asked = _Asked(peer, progress, cancel)
    service = f"C-GET ({model} root)"
    with association(
        peer,
        contexts,
        service=service,
        ext_neg=_roles(uid for uid, _ in proposals),
        evt_handlers=[(evt.EVT_C_STORE, store)],
        cancel=cancel,
        while_waiting=asked.look,
    ) as assoc:
        assoc.spool_dir = spool_dir
        context = _accepted(assoc, GET_MODELS[model])
        if context is None:
            raise Unsupported(peer, service)
        return asked.perform(Operation(assoc, C_GET, context, identifier, wants_cancel=asked.stop))


def move(
    peer: Peer,
    identifier: Dataset,
    destination: str,
    *,
    model: str = "study",
    progress: OnProgress | None = None,
    cancel: Flag | None = None,
) -> RetrieveResult:
    """Have a peer send objects to an application entity that it knows.

    Args:
        destination: its AE title.
        identifier, progress, cancel: as for `get`.
    Raises:
        GivenUp: it was cancelled before there was an association.
        Unsupported: the peer has no C-MOVE.
        PeerError: it cannot be reached, or refuses (0xA801: it does not know the destination).
    """
    asked = _Asked(peer, progress, cancel)
    contexts = [build_context(MOVE_MODELS[model], list(UNCOMPRESSED[:2]))]
    service = f"C-MOVE ({model} root)"
    with association(
        peer, contexts, service=service, cancel=cancel, while_waiting=asked.look
    ) as assoc:
        context = assoc.accepted_contexts[0]
        operation = Operation(
            assoc,
            C_MOVE,
            context,
            identifier,
            destination=destination,
            wants_cancel=asked.stop,
        )
        return asked.perform(operation)


class _Asked:
    """A retrieve that goes on: its progress, its end."""

    def __init__(self, peer: Peer, progress: OnProgress | None, cancel: Flag | None) -> None:
        self._peer = peer
        self._progress = progress
        self._cancel = cancel
        self._operation: Operation | None = None

    def stop(self) -> bool:
        """Whether it shall be cancelled."""
        return self._cancel is not None and self._cancel.is_set()

    def look(self) -> None:
        """Called about once a second while the peer is waited for."""
        if self._operation is not None:
            self._operation.look_for_cancel()

    def perform(self, operation: Operation) -> RetrieveResult:
        """Ask, and follow the responses to the last.

        Raises:
            PeerError: no response came, or a refusal.
        """
        self._operation = operation
        last = RetrieveProgress(None, 0, 0, 0)
        try:
            for answer in operation.answers():
                last = _counters(answer, last)
                if not answer.is_pending:
                    return self._result(answer, last, operation.transfer_syntax_uid)
                if self._progress is not None:
                    self._progress(last)
        except Unanswered as error:
            raise unanswered(self._peer, error) from None
        raise AssertionError  # the responses end with a final one, or raise

    def _result(self, answer: Answer, last: RetrieveProgress, syntax: str) -> RetrieveResult:
        uids = _failed_uids(answer, syntax)
        if not (last.completed or last.failed or last.warning):
            require_success(self._peer, "the retrieve", answer)
        return RetrieveResult(
            answer.status, last.completed, last.failed, last.warning, uids, answer.error_comment
        )


def _counters(answer: Answer, before: RetrieveProgress) -> RetrieveProgress:
    """The counters of a response; those it leaves out stay."""
    return RetrieveProgress(
        answer.remaining if answer.is_pending else 0,
        before.completed if answer.completed is None else answer.completed,
        before.failed if answer.failed is None else answer.failed,
        before.warning if answer.warning is None else answer.warning,
    )


def _failed_uids(answer: Answer, transfer_syntax_uid: str) -> tuple[str, ...]:
    if answer.identifier is None:
        return ()
    try:
        value = decoded(answer.identifier, transfer_syntax_uid).get("FailedSOPInstanceUIDList")
    except ValueError:
        return ()  # the counters say how many
    if value is None:
        return ()
    if isinstance(value, bytes):  # a list too long for VR UI comes as UN
        value = value.decode("ascii", "replace").rstrip("\0").split("\\")
    return (value,) if isinstance(value, str) else tuple(map(str, value))


def _roles(sop_classes: Iterator[str]) -> list[Any]:
    """We are the SCP of storage, though we opened the association (PS3.7 section D.3.3.4)."""
    roles = []
    for uid in dict.fromkeys(sop_classes):
        role = SCP_SCU_RoleSelectionNegotiation()
        role.sop_class_uid = uid
        role.scu_role = False
        role.scp_role = True
        roles.append(role)
    return roles


def _accepted(assoc: Any, model: str) -> PresentationContext | None:
    return next((cx for cx in assoc.accepted_contexts if cx.abstract_syntax == model), None)
