"""Performs C-STORE sub-operations: sends one object over one association, and counts outcomes.

A failed sub-operation never ends a retrieve. If the receiver has the object, but with a remark
(0xBxxx, or 0x0111 for an instance that it has already), the outcome is a warning.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Any, Final

from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset

from lfscp.archive.store.bucket.remote_object import RemoteObject
from lfscp.archive.store.received_objects import StoredInstance, is_as_selected
from lfscp.errors import OperationError
from lfscp.observe import metrics
from lfscp.services import status
from lfscp.services.sending.converted_bodies import Body, ConvertedBodies, UnsentError
from lfscp.services.sending.retrieve_contexts import Accepted, Choice
from lfscp.services.service_log import LOG, describe
from lfscp.services.transcoding.ahead import wanted_of
from lfscp.services.transcoding.decoding import DecodingError, needs_codec
from lfscp.upperlayer.connection.errors import CalledOffError
from lfscp.upperlayer.scu.receiver import has_ended
from lfscp.upperlayer.scu.sending import FileSlice, SendRequest, send_stored

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

_FAILED_SOP_INSTANCE_UID_LIST: Final = 0x00080058
_MAX_FAILED_UIDS: Final = 100_000  # that a response lists; more are counted only
_CHANGED: Final = "its file has changed since it was selected"
_SHORT_VALUE_BYTES: Final = 0xFFFE  # what a 16-bit length field can say


class SubOperationOutcome(Enum):
    """The outcome of one sub-operation."""

    COMPLETED = "completed"
    WARNING = "warning"
    FAILED = "failed"
    BROKEN = "broken"  # failed, and the association with it
    CALLED_OFF = "called off"  # before any byte was sent, as if it had not begun
    UNSENT = "unsent"  # the association ended before; another one may take the object at once

    @property
    def is_transferred(self) -> bool:
        """Whether the receiver has the object."""
        return self in (SubOperationOutcome.COMPLETED, SubOperationOutcome.WARNING)


@dataclass(slots=True)
class Counters:
    """The counters of one retrieve, and the instances that failed (up to a limit)."""

    remaining: int
    completed: int = 0
    failed: int = 0
    warning: int = 0
    failed_uids: list[str] = field(default_factory=list)

    def count(self, outcome: SubOperationOutcome, sop_instance_uid: str) -> None:
        """Count one sub-operation that has ended."""
        self.remaining -= 1
        if outcome is SubOperationOutcome.COMPLETED:
            self.completed += 1
        elif outcome is SubOperationOutcome.WARNING:
            self.warning += 1
        else:
            self.failed += 1
            if len(self.failed_uids) < _MAX_FAILED_UIDS:
                self.failed_uids.append(sop_instance_uid)

    def final_status(self) -> int:
        """The status of a retrieve that went to its end.

        Source: PS3.4 tables C.4-2 and C.4-3.
        """
        if self.failed == 0 and self.warning == 0:
            return status.SUCCESS
        if self.completed == 0 and self.warning == 0:
            return status.CANNOT_PERFORM_SUB_OPERATIONS
        return status.SUB_OPERATIONS_COMPLETE_WITH_FAILURES

    def failed_list(self) -> Dataset | None:
        """The identifier of a final response: Failed SOP Instance UID List; None without failures.

        A list too long for the 16-bit length of VR UI is sent as UN (PS3.5 section 6.2.2).
        """
        if not self.failed_uids:
            return None
        identifier = Dataset()
        joined = "\\".join(self.failed_uids)
        if len(joined) <= _SHORT_VALUE_BYTES:
            identifier.FailedSOPInstanceUIDList = self.failed_uids
        else:
            value = joined.encode("ascii") + b"\x00" * (len(joined) % 2)
            identifier[_FAILED_SOP_INSTANCE_UID_LIST] = DataElement(
                _FAILED_SOP_INSTANCE_UID_LIST, "UN", value
            )
        return identifier


@dataclass(frozen=True, slots=True)
class Sender:
    """How the objects of one retrieve are sent; the same for each of them.

    Args:
        log_fields: the fields of every log line of this retrieve.
        priority: of the C-STORE requests, as the retrieve's (0 medium, 1 high, 2 low).
        may_decode: whether compressed objects may be decoded for the receiver.
        locate: gives the place of an instance whose file is not as it was when it was selected.
        withheld: why an object may not be sent; empty if it may.
        look: called several times a second while an object is converted; raises CalledOffError
            to end that.
        originator_ae_title: of a C-MOVE, its requestor's AE title.
        originator_message_id: of a C-MOVE, its Message ID.
        bodies: what is converted; `close` lets go of it.
    """

    log_fields: Mapping[str, Any]
    priority: int
    may_decode: bool
    locate: Callable[[StoredInstance], StoredInstance | None]
    withheld: Callable[[StoredInstance], str] = lambda _instance: ""
    look: Callable[[], None] = lambda: None
    originator_ae_title: str | None = None
    originator_message_id: int | None = None
    bodies: ConvertedBodies = field(default_factory=ConvertedBodies, compare=False)

    def send(
        self,
        association: Any,
        accepted: Accepted,
        instance: StoredInstance,
        following: Sequence[StoredInstance] = (),
    ) -> SubOperationOutcome:
        """Send one object, wait for its response, and log a failure.

        Args:
            association: the inline engine's, established; we are its SCU of storage.
            accepted: the contexts of that association.
            instance: the object.
            following: what will be sent next, which may be converted meanwhile.
        """
        outcome, reason, _ = self._attempt(association, accepted, instance, following)
        if reason:
            LOG.warning(
                "sub-operation failed",
                **self.log_fields,
                sop_class_uid=instance.sop_class_uid,
                sop_instance_uid=instance.sop_instance_uid,
                reason=reason,
            )
        if outcome in (SubOperationOutcome.CALLED_OFF, SubOperationOutcome.UNSENT):
            return outcome
        service = self.log_fields.get("service", "")
        counted_as = outcome.value if outcome.is_transferred else "failed"
        metrics.SUB_OPERATIONS.of(service, counted_as).add()
        if outcome.is_transferred:
            metrics.SENT_BYTES.of(service).add(instance.size)
        return outcome

    def attempt(
        self,
        association: Any,
        accepted: Accepted,
        instance: StoredInstance,
        following: Sequence[StoredInstance] = (),
    ) -> tuple[SubOperationOutcome, str]:
        """The same without the log: the outcome, and the reason if it failed.

        The reason includes the receiver's own words, which may name a patient.
        """
        outcome, reason, comment = self._attempt(association, accepted, instance, following)
        return outcome, f"{reason}: {comment}" if comment else reason

    def _attempt(
        self,
        association: Any,
        accepted: Accepted,
        instance: StoredInstance,
        following: Sequence[StoredInstance],
    ) -> tuple[SubOperationOutcome, str, str]:
        """Outcome, reason, and the receiver's own words on a failure."""
        reason = self.withheld(instance)
        if reason:
            return SubOperationOutcome.FAILED, reason, ""
        if not is_as_selected(instance):
            # Perhaps a newer copy has replaced it; else the attempt says what is wrong.
            found = self.locate(instance)
            if found is None:
                self.bodies.close()  # what was made of an object that is gone is not sent
                if instance.path.exists():
                    return SubOperationOutcome.FAILED, _CHANGED, ""
            instance = found or instance
        choice = accepted.choose(instance, may_decode=self.may_decode)
        if choice is None:
            return SubOperationOutcome.FAILED, accepted.why_not(instance), ""
        self._prepare(accepted, [instance, *following])
        try:
            with self._body(association, instance, choice.transfer_syntax_uid) as body:
                answer = send_stored(association, self._request(instance, choice, body))
        except DecodingError as error:
            return SubOperationOutcome.FAILED, str(error), ""
        except CalledOffError:
            return SubOperationOutcome.CALLED_OFF, "", ""
        except UnsentError:
            return SubOperationOutcome.UNSENT, "", ""
        except Exception as error:  # noqa: BLE001 - this one fails, the retrieve goes on
            if not isinstance(error, OperationError | OSError):
                LOG.error(
                    "sending failed unexpectedly",
                    sop_instance_uid=instance.sop_instance_uid,
                    reason=type(error).__name__,  # the text may quote a value
                    exc_info=error,
                )
            return _failed(association), describe(error), ""
        if answer is None:
            return _failed(association), "the association broke before the receiver answered", ""
        if answer.status == status.SUCCESS:
            return SubOperationOutcome.COMPLETED, "", ""
        if status.is_store_warning(answer.status):
            return SubOperationOutcome.WARNING, "", ""
        comment = status.error_comment(answer.error_comment)  # which may not steer a terminal
        return SubOperationOutcome.FAILED, f"the receiver answered 0x{answer.status:04X}", comment

    def close(self) -> None:
        """Let go of an object that was converted and not sent."""
        self.bodies.close()

    def _prepare(self, accepted: Accepted, instances: Sequence[StoredInstance]) -> None:
        """Begin to convert what follows the first, if it must be decoded."""
        if not any(needs_codec(each.transfer_syntax_uid) for each in instances):
            return
        choices = ((each, accepted.choose(each, may_decode=self.may_decode)) for each in instances)
        self.bodies.prepare(
            [wanted_of(each, made.transfer_syntax_uid) for each, made in choices if made]
        )

    @contextmanager
    def _body(
        self, association: Any, instance: StoredInstance, wanted_syntax: str
    ) -> Iterator[Body]:
        """The dataset to send: as stored if possible, else converted.

        Raises:
            UnsentError: the receiver has ended the association meanwhile.
        """
        file, offset, size = instance.path, instance.dataset_offset, instance.size
        if wanted_syntax == instance.transfer_syntax_uid and not size % 2:
            begin = file.begin if isinstance(file, RemoteObject) else None
            yield FileSlice(file, offset, size, begin)
            return
        with self.bodies.body(wanted_of(instance, wanted_syntax), self.look) as (body, was_unsent):
            if not was_unsent and has_ended(association):
                raise UnsentError
            yield body

    def _request(self, instance: StoredInstance, choice: Choice, body: Body) -> SendRequest:
        return SendRequest(
            sop_class_uid=instance.sop_class_uid,
            sop_instance_uid=instance.sop_instance_uid,
            context_id=choice.context_id,
            body=body,
            priority=self.priority,
            move_originator_ae_title=self.originator_ae_title,
            move_originator_message_id=self.originator_message_id,
        )


def _failed(association: Any) -> SubOperationOutcome:
    return SubOperationOutcome.FAILED if association.is_established else SubOperationOutcome.BROKEN
