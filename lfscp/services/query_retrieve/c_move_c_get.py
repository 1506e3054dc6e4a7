"""Answers C-MOVE and C-GET: selects the objects, sends them, counts (PS3.4 C.4.2, C.4.3).

A generator for each request yields the responses. It runs in the thread that serves the
association, and performs the sub-operations between its yields. While a C-MOVE waits for its
destination, the outbound association calls back about once a second: then an overdue pending
response goes out, and a C-CANCEL is noticed. The generator can be closed at any yield; that
releases the outbound association too.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import closing
from itertools import islice
from typing import Any, Final

from pynetdicom import evt

from lfscp.archive.archive import Archive, StoredInstance
from lfscp.archive.index.database.interruption import Interruption, InterruptionError
from lfscp.archive.query.query import unique_keys
from lfscp.config import Settings
from lfscp.config.current import CurrentSettings
from lfscp.dicom.values.attributes import Level
from lfscp.errors import OperationError
from lfscp.observe import audit, metrics
from lfscp.services import status
from lfscp.services.access.added_peers import AddedPeers
from lfscp.services.access.permissions import destination, may
from lfscp.services.audit_events import SentObjects, peer_of
from lfscp.services.cancellation import Cancellation
from lfscp.services.identifier import read
from lfscp.services.models import RETRIEVE_MODELS, negotiated
from lfscp.services.refused import RefusedError
from lfscp.services.sending.destination import (
    Destination,
    DestinationError,
    NoContextAcceptedError,
)
from lfscp.services.sending.retrieve_contexts import Accepted, batches
from lfscp.services.sending.sub_operations import Counters, Sender, SubOperationOutcome
from lfscp.services.service_log import (
    LOG,
    Handlers,
    association_fields,
    calling_ae_title,
    failed_unexpectedly,
    performed,
)
from lfscp.services.transcoding.ahead import MAX_AHEAD
from lfscp.upperlayer.connection.errors import CalledOffError
from lfscp.upperlayer.scp.own_retrieve import SubOperationResponse, SubOperations

Responses = Iterator[SubOperationResponse]

PENDING_INTERVAL_S: Final = 3.0  # requestors give up after 30 s of silence; 5 s is promised
CANCEL_PATIENCE_S: Final = 5.0  # for the sub-operation at hand, once a C-CANCEL has come
_MEDIUM_PRIORITY: Final = 0


def handlers(archive: Archive, current: CurrentSettings) -> Handlers:
    """The handlers of C-MOVE and C-GET requests."""

    def handle_move(event: evt.Event) -> SubOperations:
        return _Move(archive, current.settings, event).operations

    def handle_get(event: evt.Event) -> SubOperations:
        return _Get(archive, current.settings, event).operations

    return [(evt.EVT_C_MOVE, handle_move), (evt.EVT_C_GET, handle_get)]


class _Retrieve:
    """One request being answered. Subclasses say how the objects travel."""

    service = ""

    def __init__(self, archive: Archive, settings: Settings, event: evt.Event) -> None:
        self.archive = archive
        self.settings = settings
        self.event = event
        self._sent = SentObjects() if audit.is_on() else None
        self.request: Any = event.request
        self.counters = Counters(remaining=0)
        self._cancellation = Cancellation(event)
        self._patience_ends = float("inf")
        self.reason = ""
        self._is_recorded = False
        self.operations = SubOperations(self.responses())
        self._started = self._last_response = time.monotonic()

    def prepare(self) -> None:
        """Refuse the request, if there is a reason, before its objects are selected."""

    def transfer(self, instances: Sequence[StoredInstance]) -> Responses:
        """Send the objects, with a pending response after each."""
        raise NotImplementedError

    def responses(self) -> Responses:
        """Pending responses, then the final one."""
        try:
            instances = self._instances()
            self.counters = Counters(remaining=len(instances))
            if instances:
                yield from self.transfer(instances)
            yield self._final()
        except RefusedError as refused:
            yield self._refusal(refused)
        except GeneratorExit:
            self._record(status.CANCELLED, "the association ended")
            raise
        except Exception as error:  # noqa: BLE001 - the peer gets a status whatever happened
            failed_unexpectedly(self.event, self.service, error)
            yield self._refusal(
                RefusedError(status.UNABLE_TO_PROCESS, "internal error, see the log")
            )

    def stop(self) -> bool:
        """Whether no further sub-operation may begin."""
        stops = self._cancellation()
        if self._cancellation.is_cancelled and self._patience_ends == float("inf"):
            self._patience_ends = time.monotonic() + CANCEL_PATIENCE_S
        return stops

    def keep_alive(self) -> None:
        """Called about once a second during a sub-operation.

        Raises:
            CalledOffError: the request has ended, or was cancelled some seconds ago.
        """
        if self.stop():
            if self._cancellation.has_ended() or time.monotonic() > self._patience_ends:
                raise CalledOffError("cancelled together with its C-MOVE")
            return
        self._tell()

    def look(self) -> None:
        """Called several times a second while an object is converted before its sub-operation."""
        if self.stop():
            raise CalledOffError("called off")
        self._tell()

    def _tell(self) -> None:
        """Send a pending response when the last one is old."""
        if time.monotonic() - self._last_response >= PENDING_INTERVAL_S:
            self.operations.send_now(self.pending())

    def pending(self) -> SubOperationResponse:
        """A pending response with the counters as they are."""
        self._last_response = time.monotonic()
        return self._response(status.PENDING, remaining=self.counters.remaining)

    def _response(self, code: int, **values: Any) -> SubOperationResponse:
        counters = self.counters
        return SubOperationResponse(
            code,
            completed=counters.completed,
            failed=counters.failed,
            warning=counters.warning,
            **values,
        )

    def count(self, outcome: SubOperationOutcome, instance: StoredInstance) -> None:
        self.counters.count(outcome, instance.sop_instance_uid)
        if self._sent is not None:
            self._sent.count(instance, failed=not outcome.is_transferred)
            if self._sent.is_due:
                self._write_sent()

    def _write_sent(self) -> None:
        if self._sent:
            self._sent.write(peer_of(self.event.assoc), self.receiver(), self.archive)

    def receiver(self) -> audit.AuditedPeer:
        return peer_of(self.event.assoc)

    def sender(self, **originator: Any) -> Sender:
        priority = self.request.Priority
        return Sender(
            log_fields={**association_fields(self.event.assoc), "service": self.service},
            priority=_MEDIUM_PRIORITY if priority is None else priority,
            may_decode=self.settings.retrieve.decode_when_needed,
            locate=self._locate,
            withheld=self._withheld,
            look=self.look,
            **originator,
        )

    def _withheld(self, instance: StoredInstance) -> str:
        asked = self.archive.interceptor
        withheld = None if asked is None else asked.before_send(instance, self.receiver_title())
        return "" if withheld is None else withheld.reason

    def receiver_title(self) -> str:
        """The AE title of who gets the objects."""
        return calling_ae_title(self.event)

    def _instances(self) -> Sequence[StoredInstance]:
        if not may(self.settings.peers, calling_ae_title(self.event), "retrieve"):
            raise RefusedError(status.NOT_AUTHORISED, "this AE title may not retrieve")
        sop_class = str(self.request.AffectedSOPClassUID)
        model = RETRIEVE_MODELS.get(sop_class)
        if model is None:
            raise RefusedError(status.SOP_CLASS_NOT_SUPPORTED, "no retrieve model of this node")
        relational = negotiated(self.event.assoc, sop_class).relational
        self.prepare()
        level, keys = read(
            self.event,
            lambda identifier: unique_keys(identifier, model, relational=relational),
            self.settings.budgets.key_values,
        )
        try:
            source = self.event.assoc.requestor.address or ""
            interruption = Interruption(self._cancellation, source=source)
            return self.archive.select(level, keys, interruption)
        except InterruptionError:
            raise RefusedError(status.CANCELLED, self._cancellation.reason) from None
        except Exception as error:
            failed_unexpectedly(self.event, self.service, error)
            reason = "the index cannot be read, see the log"
            raise RefusedError(status.CANNOT_COUNT_MATCHES, reason) from error

    def _locate(self, instance: StoredInstance) -> StoredInstance | None:
        uids = {Level.IMAGE: [instance.sop_instance_uid]}
        try:
            found = next(iter(self.archive.select(Level.IMAGE, uids)), None)
        except OperationError:
            return None
        place = instance.study_uid, instance.series_uid
        is_there = found is not None and (found.study_uid, found.series_uid) == place
        return found if is_there else None  # elsewhere it is not what was asked for

    def _final(self) -> SubOperationResponse:
        counters = self.counters
        # If the stop came after the last object, everything was done.
        cancelled = counters.remaining > 0 and self.stop()
        code = status.CANCELLED if cancelled else counters.final_status()
        if cancelled:
            self.reason = self._cancellation.reason
        self._record(code, self.reason)
        return self._response(
            code,
            remaining=counters.remaining if cancelled else None,
            identifier=counters.failed_list(),
            error_comment=status.error_comment(self.reason) if self.reason else None,
        )

    def _refusal(self, refused: RefusedError) -> SubOperationResponse:
        self._record(refused.code, refused.reason)
        return self._response(
            refused.code,
            remaining=None,
            identifier=self.counters.failed_list(),
            error_comment=status.error_comment(refused.reason),
            offending_elements=list(refused.offending_tags),
        )

    def _record(self, code: int, reason: str) -> None:
        if self._is_recorded:
            return
        self._is_recorded = True
        counters = self.counters
        self._write_sent()
        performed(
            self.event,
            self.service,
            code,
            self._started,
            reason=reason,
            sop_class_uid=str(self.request.AffectedSOPClassUID),
            completed=counters.completed,
            failed=counters.failed,
            warning=counters.warning,
            remaining=counters.remaining,
        )


class _Get(_Retrieve):
    """C-GET: the objects go back over the requestor's own association."""

    service = "C-GET"

    def transfer(self, instances: Sequence[StoredInstance]) -> Responses:
        association = self.event.assoc
        accepted = Accepted(association.accepted_contexts, association.rejected_contexts)
        with closing(self.sender()) as sender:
            todo = _Rest(instances)
            while todo:
                if self.stop():
                    return
                instance = todo.following()
                outcome = sender.send(association, accepted, instance, todo.ahead())
                if outcome is SubOperationOutcome.CALLED_OFF:
                    return
                self.count(outcome, instance)
                yield self.pending()


class _Move(_Retrieve):
    """C-MOVE: the objects go to a configured peer over associations of our own."""

    service = "C-MOVE"

    def prepare(self) -> None:
        title = str(self.event.move_destination or "").strip()
        peers = self.settings.peers
        added = AddedPeers(self.archive.data_dir).get(title) if title not in peers else None
        peers = peers if added is None else {**peers, title: added}
        peer = destination(peers, title, calling_ae_title(self.event))
        if peer is None:
            is_dicomweb = title in peers and peers[title].is_dicomweb
            what = "a DICOMweb peer, and no" if is_dicomweb else "no"
            reason = f"{title or 'the empty AE title'} is {what} move destination here"
            raise RefusedError(status.MOVE_DESTINATION_UNKNOWN, reason)
        self._destination = Destination(title, peer, self.settings.server)
        self._receiver = audit.AuditedPeer(title, peer.host)
        self._title = title

    def receiver_title(self) -> str:
        return self._title

    def receiver(self) -> audit.AuditedPeer:
        return self._receiver

    def transfer(self, instances: Sequence[StoredInstance]) -> Responses:
        sender = self.sender(
            originator_ae_title=calling_ae_title(self.event),
            originator_message_id=self.request.MessageID,
        )
        waiting = [(batch, _Rest(batch.instances)) for batch in batches(instances)]
        with closing(sender):
            try:
                for batch, todo in waiting:
                    try:
                        yield from self._send_all(batch.contexts(), todo, sender)
                    except NoContextAcceptedError as error:
                        self._fail([todo], str(error))
            except DestinationError as error:
                self._fail([todo for _, todo in waiting], str(error))

    def _send_all(self, contexts: list[Any], todo: _Rest, sender: Sender) -> Responses:
        """Send one batch, over a new association if one breaks.

        Raises:
            DestinationError: no association, or two in a row broke without an object transferred.
        """
        fruitless = 0
        while todo and not self.stop():
            before = self.counters.failed
            sent = len(todo)
            is_unsent = False
            with self._destination.associate(contexts, self.keep_alive) as association:
                accepted = Accepted(association.accepted_contexts, association.rejected_contexts)
                while todo and association.is_established and not self.stop():
                    instance = todo.following()
                    outcome = sender.send(association, accepted, instance, todo.ahead())
                    if outcome is SubOperationOutcome.CALLED_OFF:
                        return
                    if outcome is SubOperationOutcome.UNSENT:
                        todo.put_back(instance)
                        is_unsent = True
                        break
                    self.count(outcome, instance)
                    yield self.pending()
            if sent - len(todo) > self.counters.failed - before:
                fruitless = 0
            elif not is_unsent:
                fruitless += 1
            if fruitless == 2 and todo:
                raise DestinationError(f"associations with {self._destination} keep breaking")

    def _fail(self, rests: list[_Rest], reason: str) -> None:
        """Count the objects that cannot be sent, with one log line for all."""
        self.reason = reason
        failed = sum(map(len, rests))
        for todo in rests:
            while todo:
                self.count(SubOperationOutcome.FAILED, todo.following())
        metrics.SUB_OPERATIONS.of(self.service, "failed").add(failed)
        fields = association_fields(self.event.assoc)
        LOG.warning("destination failed", **fields, failed=failed, reason=reason)


class _Rest:
    """The instances that are still to be sent."""

    def __init__(self, instances: Sequence[StoredInstance]) -> None:
        self._instances = iter(instances)
        self._left = len(instances)
        self._drawn: deque[StoredInstance] = deque()

    def __len__(self) -> int:
        return self._left

    def following(self) -> StoredInstance:
        self._left -= 1
        return self._drawn.popleft() if self._drawn else next(self._instances)

    def ahead(self) -> Sequence[StoredInstance]:
        """Some that come after it."""
        self._drawn.extend(islice(self._instances, max(0, MAX_AHEAD - len(self._drawn))))
        return list(self._drawn)

    def put_back(self, instance: StoredInstance) -> None:
        """Have it be the next one."""
        self._left += 1
        self._drawn.appendleft(instance)
