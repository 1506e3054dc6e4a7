"""Sends objects to a peer by C-STORE, over as many associations as that takes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Final

from lfscp.archive.store.received_objects import StoredInstance
from lfscp.scu.connection import NEVER, Flag, association
from lfscp.scu.errors import PeerError, PeerErrorKind, UnsupportedError
from lfscp.scu.files import BrokenObjectError, NoObjectError, files_below, read_instance
from lfscp.scu.peer import Peer
from lfscp.services.sending.retrieve_contexts import Accepted, Batch, batches
from lfscp.services.sending.sub_operations import Sender, SubOperationOutcome
from lfscp.services.transcoding.ahead import MAX_AHEAD
from lfscp.upperlayer.connection.errors import CalledOffError

_MAX_FRUITLESS: Final = 3  # associations in a row that transferred nothing
CANCEL_PATIENCE_S: Final = 1.0  # for the object on its way when a send is cancelled

# Called after each object with its outcome, and the reason if it failed.
OnSent = Callable[[StoredInstance, SubOperationOutcome, str], None]


@dataclass(slots=True)
class SendResult:
    """The outcome of a send.

    Args:
        warning: objects that the peer has, with a warning.
        failed: (SOP Instance UID or file, reason) of each.
        left: objects that were not tried because the send was cancelled.
    """

    completed: int = 0
    warning: int = 0
    failed: list[tuple[str, str]] = field(default_factory=list)
    left: int = 0
    bytes: int = 0

    def count(self, instance: StoredInstance, outcome: SubOperationOutcome, reason: str) -> None:
        """Add what became of an object."""
        if outcome is SubOperationOutcome.COMPLETED:
            self.completed += 1
        elif outcome is SubOperationOutcome.WARNING:
            self.warning += 1
        else:
            self.failed.append((instance.sop_instance_uid, reason))
        if outcome.is_transferred:
            self.bytes += instance.size


def objects_in(
    paths: Iterable[Path],
    *,
    on_other: Callable[[Path, str], None],
    on_broken: Callable[[Path, str], None] | None = None,
    on_note: Callable[[Path, str], None] = lambda _file, _note: None,
) -> list[StoredInstance]:
    """The DICOM objects in files and folders.

    Args:
        on_other: called with each file that is no DICOM object, and why.
        on_broken: called with each file that is or may be one and cannot be sent; `on_other` by
            default.
        on_note: called with each file that is one and odd, and in what way.
    """
    found = []
    broken = on_broken or on_other
    for path in paths:
        for file in files_below(path):
            try:
                found.append(read_instance(file, partial(on_note, file)))
            except BrokenObjectError as error:
                broken(file, str(error))
            except NoObjectError as error:
                on_other(file, str(error))
            except OSError as error:
                broken(file, error.strerror or str(error))
    return found


def send(
    peer: Peer,
    instances: Sequence[StoredInstance],
    *,
    on_sent: OnSent = lambda _instance, _outcome, _reason: None,
    cancel: Flag = NEVER,
    may_decode: bool = True,
    locate: Callable[[StoredInstance], StoredInstance | None] = lambda _instance: None,
) -> SendResult:
    """Send objects; if one fails, the others are sent all the same.

    Args:
        instances: from an archive or from `objects_in`.
        on_sent: called after each; an error that it raises ends the send.
        cancel: once set, no further object is sent; one that is on its way has a second.
        may_decode: decode compressed objects if the peer takes only uncompressed ones.
        locate: gives the place of an instance whose file has moved.
    Raises:
        GivenUpError: it was cancelled before there was an association.
        PeerError: no association, or several in a row broke without any object transferred.
    """

    def look() -> None:
        if cancel.is_set():
            raise CalledOffError("called off")

    sender = Sender(log_fields={}, priority=0, may_decode=may_decode, locate=locate, look=look)
    sending = _Sending(peer, sender, on_sent, cancel)
    with closing(sender):
        for batch in batches(instances):
            sending.send(batch)
    return sending.result


class _Sending:
    def __init__(self, peer: Peer, sender: Sender, on_sent: OnSent, cancel: Flag) -> None:
        self._peer = peer
        self._on_sent = on_sent
        self._cancel = cancel
        self._sender = sender
        self._broke_at: StoredInstance | None = None
        self._why_broken = ""
        self._is_unsent = False  # the last association ended while an object was converted
        self._patience_ends = float("inf")
        self.result = SendResult()

    def _look(self) -> None:
        """Called several times a second while the peer takes an object, or answers."""
        if not self._cancel.is_set():
            return
        now = time.monotonic()
        self._patience_ends = min(self._patience_ends, now + CANCEL_PATIENCE_S)
        if now >= self._patience_ends:
            raise CalledOffError("called off")

    def send(self, batch: Batch) -> None:
        """Send the objects of one batch, over a new association whenever one breaks."""
        todo = list(reversed(batch.instances))
        fruitless = 0
        while todo and not self._cancel.is_set():
            try:
                transferred = self._over_one_association(batch, todo)
            except UnsupportedError as error:
                accepted = Accepted((), error.rejected)
                for instance in reversed(todo):
                    reason = accepted.why_not(instance)
                    self._count(instance, SubOperationOutcome.FAILED, reason)
                return
            if transferred:
                fruitless = 0
            elif not self._is_unsent:
                fruitless += 1
            if fruitless == _MAX_FRUITLESS and todo:
                reason = f"keeps ending the association: {self._why_broken}"
                raise PeerError(PeerErrorKind.ABORTED, self._peer, reason)
        self.result.left += len(todo)

    def _over_one_association(self, batch: Batch, todo: list[StoredInstance]) -> int:
        """Send until the association ends; how many objects the peer got."""
        transferred = 0
        self._is_unsent = False
        with association(
            self._peer,
            batch.contexts(),
            service="what is to be sent",
            cancel=self._cancel,
            while_waiting=self._look,
        ) as assoc:
            accepted = Accepted(assoc.accepted_contexts, assoc.rejected_contexts)
            while todo and assoc.is_established and not self._cancel.is_set():
                instance = todo[-1]
                following = todo[-2 : -2 - MAX_AHEAD : -1]
                outcome, reason = self._sender.attempt(assoc, accepted, instance, following)
                self._is_unsent = outcome is SubOperationOutcome.UNSENT
                if outcome in (SubOperationOutcome.CALLED_OFF, SubOperationOutcome.UNSENT):
                    break
                if outcome is SubOperationOutcome.BROKEN:
                    self._why_broken = reason
                    if self._broke_at is not instance:
                        self._broke_at = instance  # try it once more
                        break
                todo.pop()
                transferred += outcome.is_transferred
                self._count(instance, outcome, reason)
        return transferred

    def _count(self, instance: StoredInstance, outcome: SubOperationOutcome, reason: str) -> None:
        self.result.count(instance, outcome, reason)
        self._on_sent(instance, outcome, reason)
