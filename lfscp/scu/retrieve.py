"""Asks a peer to send objects, by C-GET or C-MOVE (PS3.4 sections C.4.2, C.4.3)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from pydicom.dataset import Dataset
from pydicom.uid import UID
from pynetdicom import build_context, build_role, evt
from pynetdicom.dimse_primitives import C_GET, C_MOVE

from lfscp.dicom.errors import DatasetError
from lfscp.dicom.reading.header import is_uid
from lfscp.scu.connection import MAX_RETRIEVE_RESPONSE_BYTES, NEVER, Flag, association
from lfscp.scu.errors import PeerError, PeerErrorKind, UnsupportedError
from lfscp.scu.find import is_failure, require_success, unanswered
from lfscp.scu.identifiers import GET_MODELS, MOVE_MODELS, decoded
from lfscp.scu.parts import OnProgress, RetrieveProgress, RetrieveResult, get_in_parts
from lfscp.scu.peer import Peer
from lfscp.scu.proposals import get_proposals
from lfscp.scu.taking import OnObject, OnRefused, Taking
from lfscp.services.contexts import UNCOMPRESSED
from lfscp.services.status import (
    CANNOT_UNDERSTAND,
    SUB_OPERATIONS_COMPLETE_WITH_FAILURES,
    error_comment,
    with_reason,
)
from lfscp.services.storage.received import received_object
from lfscp.upperlayer.receiving.receiver import StoreOptions
from lfscp.upperlayer.scu.asking import Answer, Operation, UnansweredError

_FAILED_SOP_INSTANCE_UID_LIST: Final = 0x00080058
_MAX_FAILED_UIDS: Final = 100_000  # of one list


def get(
    peer: Peer,
    identifier: Dataset,
    *,
    on_object: OnObject,
    model: str = "study",
    sop_classes: Sequence[str] = (),
    progress: OnProgress | None = None,
    cancel: Flag = NEVER,
    spool_dir: Path | None = None,
    on_refused: OnRefused = lambda _uid, _reason: None,
    max_object_bytes: int = 0,
    shortage: Callable[[], str] = str,
) -> RetrieveResult:
    """Have a peer send objects here, over one association or several.

    Args:
        identifier: unique keys and Query/Retrieve Level.
        on_object: gets each object, which is valid during the call; gives the C-STORE's status.
        sop_classes: that will come; empty if unknown. If they are known, every transfer syntax
            gets a context of its own, so that objects come as they are stored.
        progress: called with each pending response's counters.
        cancel: once set, a C-CANCEL goes out.
        spool_dir: where large objects go as they arrive; None keeps them in memory.
        on_refused: called with each object that was not requested or cannot be read, and why.
        max_object_bytes: largest object that is accepted; 0 is no limit.
        shortage: why a large object may not grow on the disk now; empty while it may.
    Raises:
        GivenUpError: it was cancelled before there was an association.
        UnsupportedError: the peer has no C-GET.
        PeerError: it cannot be reached, or refuses.
    """

    def get_once(classes: Sequence[str], follow: OnProgress | None) -> RetrieveResult:
        taking = Taking(identifier, on_object, on_refused)

        def store(event: evt.Event) -> int | Dataset:
            try:
                received = received_object(event, peer.ae_title)
            except DatasetError as error:
                return with_reason(CANNOT_UNDERSTAND, error.reason)
            return taking.take(received)

        proposals = get_proposals(classes)
        contexts = [build_context(GET_MODELS[model], list(UNCOMPRESSED[:2]))]
        contexts += [build_context(uid, list(syntaxes)) for uid, syntaxes in proposals]
        asked = _Asked(peer, follow, cancel, taking)
        service = f"C-GET ({model} root)"
        with association(
            peer,
            contexts,
            service=service,
            # We are the SCP of storage, though we open the association (PS3.7 section D.3.3.4).
            ext_neg=[build_role(uid, scp_role=True) for uid in dict(proposals)],
            evt_handlers=[(evt.EVT_C_STORE, store)],
            cancel=cancel,
            while_waiting=asked.look,
            max_response_bytes=MAX_RETRIEVE_RESPONSE_BYTES,
            max_object_bytes=max_object_bytes,
            shortage=shortage,
        ) as assoc:
            assoc.receiver.options = StoreOptions(spool_dir)
            accepted = {context.abstract_syntax: context for context in assoc.accepted_contexts}
            context = accepted.get(UID(GET_MODELS[model]))
            if context is None:
                raise UnsupportedError(peer, service)
            operation = Operation(assoc, C_GET, context, identifier, wants_cancel=asked.stop)
            return asked.perform(operation)

    return get_in_parts(sop_classes, get_once, progress)


def move(
    peer: Peer,
    identifier: Dataset,
    destination: str,
    *,
    model: str = "study",
    progress: OnProgress | None = None,
    cancel: Flag = NEVER,
) -> RetrieveResult:
    """Have a peer send objects to an application entity that it knows.

    Args:
        destination: its AE title.
        identifier, progress, cancel: as for `get`.
    Raises:
        GivenUpError: it was cancelled before there was an association.
        UnsupportedError: the peer has no C-MOVE.
        PeerError: it cannot be reached, or refuses (0xA801: it does not know the destination).
    """
    asked = _Asked(peer, progress, cancel)
    contexts = [build_context(MOVE_MODELS[model], list(UNCOMPRESSED[:2]))]
    service = f"C-MOVE ({model} root)"
    with association(
        peer,
        contexts,
        service=service,
        cancel=cancel,
        while_waiting=asked.look,
        max_response_bytes=MAX_RETRIEVE_RESPONSE_BYTES,
    ) as assoc:
        context, stop = assoc.accepted_contexts[0], asked.stop
        return asked.perform(
            Operation(
                assoc, C_MOVE, context, identifier, destination=destination, wants_cancel=stop
            )
        )


class _Asked:
    """One retrieve: its progress and its end."""

    def __init__(
        self, peer: Peer, progress: OnProgress | None, cancel: Flag, taking: Taking | None = None
    ) -> None:
        self._peer = peer
        self._taking = taking
        self._progress = progress
        self._cancel = cancel
        self._operation: Operation | None = None

    def stop(self) -> bool:
        return self._is_flooded or self._cancel.is_set()

    @property
    def _is_flooded(self) -> bool:
        return self._taking is not None and self._taking.is_flooded

    def look(self) -> None:
        if self._operation is not None:
            self._operation.look_for_cancel()

    def perform(self, operation: Operation) -> RetrieveResult:
        self._operation = operation
        last = RetrieveProgress(None, 0, 0, 0)
        try:
            for answer in operation.answers():
                last = _counters(answer, last)
                if not answer.is_pending:
                    self._require_no_flood()
                    return self._result(answer, last, operation.transfer_syntax_uid)
                if self._progress is not None:
                    self._progress(self._stored(last)[0])
        except UnansweredError as error:
            self._require_no_flood()
            broken = unanswered(self._peer, error)
            if self._taking is not None and self._taking.came:
                broken.reason += f", after {self._taking.came} objects"
            raise broken from None
        raise AssertionError  # the responses end with a final one or with an error

    def _require_no_flood(self) -> None:
        if self._is_flooded:
            reason = "keeps sending objects that were not requested, cannot be read, or came before"
            raise PeerError(PeerErrorKind.REFUSED, self._peer, reason)

    def _stored(self, said: RetrieveProgress) -> tuple[RetrieveProgress, int]:
        """What was stored of what the peer reports, and how many objects never came."""
        if self._taking is None:
            return said, 0
        taken = self._taking.came + self._taking.refused
        missing = max(0, said.completed + said.warning - taken)
        failed = max(said.failed, self._taking.refused)
        completed, warning = self._taking.completed, self._taking.warning
        return RetrieveProgress(said.remaining, completed, failed, warning), missing

    def _result(self, answer: Answer, said: RetrieveProgress, syntax: str) -> RetrieveResult:
        stored, missing = self._stored(said)
        failed = stored.failed + missing
        comment = error_comment(answer.error_comment)
        if missing:
            came = stored.completed + stored.warning
            sent = said.completed + said.warning
            comment = f"the peer reports {sent} objects sent, {came} arrived"
        if not (stored.completed or failed or stored.warning):
            require_success(self._peer, "the retrieve", answer)
            told = (answer.completed, answer.failed, answer.warning)
            if self._taking is None and not said.completed and told == (None, None, None):
                failed = answer.status == SUB_OPERATIONS_COMPLETE_WITH_FAILURES
                comment = comment or "the peer does not report how many"
        elif not failed and is_failure(answer.status):
            failed = 1  # at least
            comment = comment or f"it ended with status 0x{answer.status:04X}"
        completed, warning, uids = stored.completed, stored.warning, _failed_uids(answer, syntax)
        return RetrieveResult(answer.status, completed, failed, warning, uids, comment)


def _counters(answer: Answer, before: RetrieveProgress) -> RetrieveProgress:
    """The counters of a response; a counter that is missing keeps its value."""
    return RetrieveProgress(
        answer.remaining if answer.is_pending else 0,
        before.completed if answer.completed is None else answer.completed,
        before.failed if answer.failed is None else answer.failed,
        before.warning if answer.warning is None else answer.warning,
    )


def _failed_uids(answer: Answer, transfer_syntax_uid: str) -> tuple[str, ...]:
    if answer.identifier is None:
        return ()
    value: Any = None
    with suppress(ValueError):  # the counters say how many
        dataset = decoded(answer.identifier, transfer_syntax_uid)
        if _FAILED_SOP_INSTANCE_UID_LIST in dataset:
            # The raw value, because there may be many UIDs.
            value = dataset.get_item(_FAILED_SOP_INSTANCE_UID_LIST).value
    if not isinstance(value, bytes):
        return ()
    uids = value.decode("ascii", "replace").rstrip("\0 ").split("\\", _MAX_FAILED_UIDS)
    return tuple(uid for uid in uids[:_MAX_FAILED_UIDS] if is_uid(uid))
