"""Sends objects over an association that stays open for those to come.

The association is opened when it is needed, again if it breaks, and with more contexts if an object
of another kind comes. If an object breaks two associations in a row, it fails, and the others go.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from itertools import islice
from typing import Final

from lfscp.archive.store.received_objects import StoredInstance
from lfscp.scu.connection import NEVER, Flag, association
from lfscp.scu.errors import PeerError, PeerErrorKind, UnsupportedError
from lfscp.scu.peer import Peer
from lfscp.scu.send import OnSent
from lfscp.services.sending.retrieve_contexts import Accepted, Batch, batches
from lfscp.services.sending.sub_operations import Sender, SubOperationOutcome
from lfscp.services.transcoding.ahead import MAX_AHEAD
from lfscp.upperlayer.connection.errors import CalledOffError
from lfscp.upperlayer.engine.association import InlineAssociation

_MAX_FRUITLESS: Final = 3  # associations in a row that transferred nothing
_Kind = tuple[str, str]  # SOP class and transfer syntax


class KeptAssociation:
    """An association with a peer, for one thread.

    Args:
        cancel: once set, no further object is sent.
        priority: of the C-STORE requests (0 medium, 1 high, 2 low).
        may_decode: decode compressed objects if the peer takes only uncompressed ones.
        transfer_syntax_uid: in which all objects are sent; empty for the stored one.
        locate: gives the place of an instance whose file has moved.
    """

    def __init__(
        self,
        peer: Peer,
        *,
        cancel: Flag = NEVER,
        priority: int = 0,
        may_decode: bool = True,
        transfer_syntax_uid: str = "",
        locate: Callable[[StoredInstance], StoredInstance | None] = lambda _instance: None,
    ) -> None:
        self.peer = peer
        self._cancel = cancel
        self._syntax = transfer_syntax_uid
        self._sender = Sender(
            log_fields={},
            priority=priority,
            may_decode=may_decode or bool(transfer_syntax_uid),
            locate=locate,
            look=self._look,
        )
        self._kinds: dict[_Kind, StoredInstance] = {}  # one object of each kind that was proposed
        self._open: ExitStack | None = None
        self._association: InlineAssociation | None = None
        self._accepted = Accepted(())

    def send(self, instances: Sequence[StoredInstance], on_sent: OnSent) -> None:
        """Send objects in their order; if one fails, the others are sent all the same.

        Args:
            on_sent: called after each that was tried.
        Raises:
            GivenUpError: it was cancelled before there was an association.
            PeerError: no association, or several in a row broke without any object transferred.
        """
        with closing(self._sender):
            self._send_all(deque(instances), on_sent)

    def _send_all(self, todo: deque[StoredInstance], on_sent: OnSent) -> None:
        broke_at: StoredInstance | None = None
        fruitless = 0
        while todo and not self._cancel.is_set():
            instance = todo[0]
            try:
                following = list(islice(todo, 1, MAX_AHEAD + 1))
                outcome, reason = self._attempt(instance, following)
            except UnsupportedError as error:
                reason = Accepted((), error.rejected).why_not(instance)
                outcome = SubOperationOutcome.FAILED
                self._kinds.clear()
            if outcome is SubOperationOutcome.CALLED_OFF:
                return
            if outcome is SubOperationOutcome.UNSENT:
                self.close()
                continue
            if outcome is SubOperationOutcome.BROKEN:
                self.close()
                fruitless += 1
                if fruitless == _MAX_FRUITLESS:
                    told = f"keeps ending the association: {reason}"
                    raise PeerError(PeerErrorKind.ABORTED, self.peer, told)
                if broke_at is not instance:
                    broke_at = instance  # try it once more: the peer may have ended what rested
                    continue
            elif outcome.is_transferred:
                fruitless = 0
            todo.popleft()
            on_sent(instance, outcome, reason)

    def close(self) -> None:
        """Release the association."""
        open_, self._open = self._open, None
        self._association = None
        if open_ is not None:
            open_.close()

    def _attempt(
        self, instance: StoredInstance, following: Sequence[StoredInstance]
    ) -> tuple[SubOperationOutcome, str]:
        assoc = self._fitting(instance)
        return self._sender.attempt(assoc, self._accepted, instance, following)

    def _fitting(self, instance: StoredInstance) -> InlineAssociation:
        """An association that proposes the object's kind: the open one, or a new one."""
        kind = instance.sop_class_uid, instance.transfer_syntax_uid
        assoc = self._association
        if assoc is not None and assoc.is_established and kind in self._kinds:
            return assoc
        self.close()
        self._kinds[kind] = instance
        return self._opened(instance)

    def _opened(self, instance: StoredInstance) -> InlineAssociation:
        """Open an association for all kinds met so far; if these are too many, for this class."""
        known = list(self._kinds.values())
        batch = next(
            each
            for each in batches(known)
            if any(one.sop_class_uid == instance.sop_class_uid for one in each.instances)
        )
        if len(batch.instances) < len(known):
            proposed = {one.sop_class_uid for one in batch.instances}
            self._kinds = {kind: one for kind, one in self._kinds.items() if kind[0] in proposed}
        if self._syntax:
            classes = dict.fromkeys(one.sop_class_uid for one in batch.instances)
            batch = Batch([(uid, (self._syntax,)) for uid in classes], batch.instances)
        with ExitStack() as opening:
            assoc = opening.enter_context(
                association(
                    self.peer,
                    batch.contexts(),
                    service="what is to be sent",
                    cancel=self._cancel,
                    while_waiting=self._look,
                )
            )
            self._open = opening.pop_all()
        self._association = assoc
        self._accepted = Accepted(assoc.accepted_contexts, assoc.rejected_contexts)
        return assoc

    def _look(self) -> None:
        if self._cancel.is_set():
            raise CalledOffError("called off")
