"""C-STORE: send objects to a peer, one association after another as far as it takes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Final

from lfscp.archive.store.received_objects import StoredInstance
from lfscp.scu.connection import Flag, association
from lfscp.scu.errors import PeerError, PeerErrorKind, UnsupportedError
from lfscp.scu.files import BrokenObjectError, NoObjectError, files_below, read_instance
from lfscp.scu.peer import Peer
from lfscp.services.sending.retrieve_contexts import Accepted, Batch, batches
from lfscp.services.sending.sub_operations import Sender, SubOperationOutcome
from lfscp.upperlayer.connection.errors import CalledOffError

_MAX_FRUITLESS: Final = 3  # associations in a row that transferred nothing
CANCEL_PATIENCE_S: Final = 1.0  # for the object on its way when a send is cancelled

# Called after each object: what came of it, and why when it failed.
OnSent = Callable[[StoredInstance, SubOperationOutcome, str], None]


@dataclass(slots=True)
class SendResult:
    """What came of a send.

    Args:
        warning: objects that the peer has, with something to remark.
        failed: (SOP Instance UID or file, reason) each.
        left: not tried, since it was cancelled.
    """

    completed: int = 0
    warning: int = 0
    failed: list[tuple[str, str]] = field(default_factory=list)
    left: int = 0
    bytes: int = 0


def objects_in(
    paths: Iterable[Path],
    *,
    on_other: Callable[[Path, str], None],
    on_broken: Callable[[Path, str], None] | None = None,
    on_note: Callable[[Path, str], None] = lambda _file, _note: None,
) -> list[StoredInstance]:
    """The DICOM objects in files and folders.

    Args:
        on_other: told of each file that is none, and why; it ends nothing.
        on_broken: told of each that is one, or may be, and cannot be sent; else `on_other` is.
        on_note: told of each file that is one, and odd: in what way.
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
    on_sent: OnSent | None = None,
    cancel: Flag | None = None,
    may_decode: bool = True,
    locate: Callable[[StoredInstance], StoredInstance | None] = lambda _instance: None,
) -> SendResult:
    """Send objects; one that fails does not keep the others back.

    Args:
        instances: from an archive or from `objects_in`.
        on_sent: called after each; what it raises ends the send.
        cancel: once set no further object is sent, and one that is on its way has a second.
        may_decode: decode compressed objects when the peer takes only uncompressed ones.
        locate: where an instance is now, for one whose file has gone since.
    Raises:
        GivenUpError: it was cancelled before there was an association.
        PeerError: no association, or several in a row broke without any object transferred.
    """

    def look() -> None:
        if cancel is not None and cancel.is_set():
            raise CalledOffError("called off")

    sender = Sender(log_fields={}, priority=0, may_decode=may_decode, locate=locate, look=look)
    sending = _Sending(peer, sender, on_sent, cancel)
    for batch in batches(instances):
        sending.send(batch)
    return sending.result


class _Sending:
    def __init__(
        self, peer: Peer, sender: Sender, on_sent: OnSent | None, cancel: Flag | None
    ) -> None:
        self._peer = peer
        self._on_sent = on_sent
        self._cancel = cancel
        self._sender = sender
        self._broke_at: StoredInstance | None = None
        self._why_broken = ""
        self._patience_ends = float("inf")
        self.result = SendResult()

    def _stop(self) -> bool:
        return self._cancel is not None and self._cancel.is_set()

    def _look(self) -> None:
        """Called several times a second while the peer takes an object, or answers."""
        if not self._stop():
            return
        now = time.monotonic()
        self._patience_ends = min(self._patience_ends, now + CANCEL_PATIENCE_S)
        if now >= self._patience_ends:
            raise CalledOffError("called off")

    def send(self, batch: Batch) -> None:
        """Send what goes over one association, over a new one when one breaks."""
        todo = list(reversed(batch.instances))
        fruitless = 0
        while todo and not self._stop():
            try:
                transferred = self._over_one_association(batch, todo)
            except UnsupportedError as error:
                self._fail_all(todo, Accepted((), error.rejected))
                return
            fruitless = 0 if transferred else fruitless + 1
            if fruitless == _MAX_FRUITLESS and todo:
                reason = f"keeps ending the association: {self._why_broken}"
                raise PeerError(PeerErrorKind.ABORTED, self._peer, reason)
        self.result.left += len(todo)

    def _over_one_association(self, batch: Batch, todo: list[StoredInstance]) -> int:
        """Send until the association ends; how many the peer has now."""
        transferred = 0
        with association(
            self._peer,
            batch.contexts(),
            service="what is to be sent",
            cancel=self._cancel,
            while_waiting=self._look,
        ) as assoc:
            accepted = Accepted(assoc.accepted_contexts, assoc.rejected_contexts)
            while todo and assoc.is_established and not self._stop():
                instance = todo[-1]
                outcome, reason = self._sender.attempt(assoc, accepted, instance)
                if outcome is SubOperationOutcome.CALLED_OFF:
                    break
                if outcome is SubOperationOutcome.BROKEN:
                    self._why_broken = reason
                    if self._broke_at is not instance:
                        self._broke_at = instance  # perhaps not its fault: once more
                        break
                todo.pop()
                transferred += outcome in (
                    SubOperationOutcome.COMPLETED,
                    SubOperationOutcome.WARNING,
                )
                self._count(instance, outcome, reason)
        return transferred

    def _fail_all(self, todo: list[StoredInstance], accepted: Accepted) -> None:
        while todo:
            instance = todo.pop()
            self._count(instance, SubOperationOutcome.FAILED, accepted.why_not(instance))

    def _count(self, instance: StoredInstance, outcome: SubOperationOutcome, reason: str) -> None:
        if outcome is SubOperationOutcome.COMPLETED:
            self.result.completed += 1
        elif outcome is SubOperationOutcome.WARNING:
            self.result.warning += 1
        else:
            self.result.failed.append((instance.sop_instance_uid, reason))
        if outcome in (SubOperationOutcome.COMPLETED, SubOperationOutcome.WARNING):
            self.result.bytes += instance.size
        if self._on_sent is not None:
            self._on_sent(instance, outcome, reason)
