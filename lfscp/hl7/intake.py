"""Does what HL7 messages ask for, and answers them once it is in the index.

Orders (ORM^O01, OMI^O23) make, change and cancel worklist items; ADT^A08 and A31 change the patient
of items, ADT^A40 merges patients. Other visits of ADT are accepted, and change nothing.

Rules: a message is taken whole or not at all. What it says is checked before anything is changed;
then one transaction changes it. The same message again changes nothing more.
Source: IHE RAD TF-2 sections 4.4, 4.12 and 4.13; HL7 2.5.1 chapters 2 to 4.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextvars import copy_context
from typing import TYPE_CHECKING, Final

from lfscp.archive.errors import ArchiveError
from lfscp.archive.workflow.worklist.audit_record import record_item
from lfscp.archive.workflow.worklist.item import ACCESSION_NUMBER
from lfscp.archive.workflow.worklist.ordered_items import Done, OrderedItems
from lfscp.archive.workflow.worklist.worklist import InvalidItemError
from lfscp.dicom.models.element_tree import Tree
from lfscp.hl7 import patients
from lfscp.hl7.acknowledgement import acknowledge, version_of
from lfscp.hl7.errors import (
    DATA_TYPE,
    EVENT_UNSUPPORTED,
    FIELD_MISSING,
    INTERNAL,
    RECORD_LOCKED,
    SEGMENT_SEQUENCE,
    TYPE_UNSUPPORTED,
    VALUE_UNKNOWN,
    VERSION_UNSUPPORTED,
    MessageError,
    Place,
)
from lfscp.hl7.message import Message, Segment, read_message
from lfscp.hl7.orders import Group, groups_of, items_of
from lfscp.hl7.stations import Stations
from lfscp.hl7.values import tag_and_vr
from lfscp.observe import audit, metrics
from lfscp.observe.audit.message import CREATE, DELETE, UPDATE
from lfscp.observe.log_budget import REQUESTS
from lfscp.observe.logging import get_logger

if TYPE_CHECKING:
    from lfscp.archive.index.index import Index
    from lfscp.config.workflow import Worklist as WorklistSettings

LOG: Final = get_logger("lfscp.hl7")
SOURCE: Final = "hl7"
# ORC-1, HL7 table 0119.
_PUT: Final = frozenset({"NW", "SN", "RO", "XO", "XX", "XR"})
_CANCEL: Final = frozenset({"CA", "OC", "CR", "DC", "OD", "DR", "RP", "RU", "RQ"})
_STATUS: Final = frozenset({"SC", "SR"})  # says the state, and may say the schedule
_ASKS_BEFORE_BEGIN: Final = "CA"  # who wants to stop what has begun says DC
_OVER: Final = frozenset({"CA", "CM", "DC", "RP"})  # ORC-5, HL7 table 0038: nothing is left to do
_ORDERS: Final = {"ORM": "O01", "OMI": "O23"}
_CHANGED: Final = frozenset({"A08", "A31"})
_MERGED: Final = "A40"
_OTHER_VISITS: Final = frozenset(
    f"A{number:02}"
    for number in (*range(1, 8), *range(9, 18), 21, 22, *range(25, 30), 32, 33, 38, 60)
)
_ACTIONS: Final = {"created": CREATE, "changed": UPDATE, "removed": DELETE}


class Intake:
    """Takes messages; any thread may, one at a time.

    Args:
        ae_title: names this node in answers.
    """

    def __init__(self, settings: WorklistSettings, index: Index, ae_title: str) -> None:
        self._character_set = settings.hl7_character_set
        self._stations = Stations(settings.hl7_modalities, settings.hl7_stations)
        self._items = OrderedItems(index, SOURCE)
        self._ae_title = ae_title

    def take(self, data: bytes, address: str) -> bytes:
        """Take a message, and log, count and audit it.

        Args:
            data: what was in its MLLP frame.
            address: of the peer.
        Returns:
            The answer, for an MLLP frame.
        """
        # The audit trail's user is that of this message alone.
        return copy_context().run(self._take, data, address)

    def _take(self, data: bytes, address: str) -> bytes:
        started = time.monotonic()
        message: Message | None = None
        error: MessageError | None = None
        done: list[Done] = []
        try:
            message = read_message(data, self._character_set)
            audit.act_as(_sender(message), address)
            done = self._way_of(message)(message)
        except MessageError as refused:
            error = refused
        except InvalidItemError as invalid:
            error = MessageError("AE", DATA_TYPE, invalid.reason)
        except ArchiveError as failed:
            error = MessageError("AR", INTERNAL, str(failed))
        except Exception as unexpected:  # a message must not end the listener
            error = MessageError("AR", INTERNAL, "internal error, see the log")
            LOG.error("HL7 message failed unexpectedly", reason=error.said, exc_info=unexpected)  # noqa: TRY400
        _record(done)
        _say(message, address, error, len(done), started)
        return acknowledge(message, self._ae_title, error)

    def _way_of(self, message: Message) -> Callable[[Message], list[Done]]:
        header = message.header
        if not header.field(10).text():
            raise MessageError("AR", FIELD_MISSING, "no message control ID", Place("MSH", 1, 10))
        version = header.field(12).text()
        if version and version_of(message)[0] != 2:
            raise MessageError("AR", VERSION_UNSUPPORTED, "is not version 2", Place("MSH", 1, 12))
        kind, event = (header.field(9).component(number).text() for number in (1, 2))
        if kind in _ORDERS and event in ("", _ORDERS[kind]):
            return self._take_orders
        if kind == "ADT" and event in _CHANGED:
            return self._take_patient
        if kind == "ADT" and event == _MERGED:
            return self._take_merge
        if kind == "ADT" and event in _OTHER_VISITS:
            return lambda _: []
        if kind == "ADT" or kind in _ORDERS:
            raise MessageError("AR", EVENT_UNSUPPORTED, "is not taken here", Place("MSH", 1, 9, 2))
        raise MessageError("AR", TYPE_UNSUPPORTED, "is not taken here", Place("MSH", 1, 9, 1))

    def _take_orders(self, message: Message) -> list[Done]:
        wanted, cancelled = [], []
        asks = False
        for group in groups_of(message):
            if _is_over(group):
                cancelled += group.procedures()
                asks = asks or group.control == _ASKS_BEFORE_BEGIN
            elif _has_schedule(group):
                wanted.append(group)
        items = items_of(wanted, self._stations)
        done, has_begun = self._items.change(cancelled, items)
        if has_begun and asks:
            _record(done)
            reason = "a device has begun; what it has not begun is off the worklist"
            raise MessageError("AE", RECORD_LOCKED, reason, Place("ORC", 1, 1))
        return done

    def _take_patient(self, message: Message) -> list[Done]:
        changes = patients.changes(_scope(message.named("PID")[:1]))
        return self._items.change_patient(*_identity(changes), changes)

    def _take_merge(self, message: Message) -> list[Done]:
        merges: list[tuple[Tree, Tree]] = []
        patient: Segment | None = None
        for segment in message.segments:
            if segment.name == "PID":
                patient = segment
            if segment.name == "MRG":
                if patient is None:
                    raise MessageError("AE", SEGMENT_SEQUENCE, "no PID before it", Place("MRG"))
                scope = _scope([patient, segment])
                merges.append((patients.identifiers(scope, "MRG", (1,)), patients.changes(scope)))
        if not merges:
            raise MessageError("AE", FIELD_MISSING, "the segment is missing", Place("MRG"))
        done: list[Done] = []
        for before, changes in merges:
            done += self._items.change_patient(*_identity(before), changes)
        return done


def _is_over(group: Group) -> bool:
    """Whether an order is cancelled, or otherwise leaves nothing to do.

    Raises:
        MessageError: it is neither that nor new or changed.
    """
    if group.control not in _PUT | _CANCEL | _STATUS:
        raise MessageError("AE", VALUE_UNKNOWN, "is no order control taken here", group.place)
    return group.control in _CANCEL or group.status in _OVER


def _has_schedule(group: Group) -> bool:
    """Whether an order says what is to be done, and not only how far it has got."""
    return group.control not in _STATUS or group.has_schedule()


def _scope(segments: list[Segment]) -> dict[str, list[Segment]]:
    return {each.name: [each] for each in segments}


def _identity(tree: Tree) -> tuple[str, str]:
    tags = (tag_and_vr(keyword)[0] for keyword in ("PatientID", "IssuerOfPatientID"))
    patient_id, issuer = map(tree.text, tags)
    return patient_id, issuer


def _sender(message: Message) -> str:
    parts = (message.header.field(number).text() for number in (3, 4))
    return "HL7 " + ("|".join(filter(None, parts)) or "sender")


def _record(done: list[Done]) -> None:
    """Write to the audit trail what was done."""
    for each in done:
        details = {"accession number": each.dataset.text(ACCESSION_NUMBER)}
        record_item(_ACTIONS[each.change], each.dataset, details)


def _say(
    message: Message | None,
    address: str,
    error: MessageError | None,
    items: int,
    started: float,
) -> None:
    """Count a message and write its line; it names no patient."""
    kind, event, control_id = "", "", ""
    if message is not None:
        kind, event = (message.header.field(9).component(number).text() for number in (1, 2))
        control_id = message.header.field(10).text()
    answer = error.answer if error is not None else "AA"
    name = "^".join(filter(None, (kind, event)))
    is_other_visit = kind == "ADT" and name not in metrics.HL7_TYPES
    metrics.HL7_MESSAGES.of(kind if is_other_visit else name, answer).add()
    if not REQUESTS.allows(address):
        return
    fields: dict[str, object] = {"peer": address, "control_id": control_id, "type": name[:40]}
    if error is None:
        fields["items"] = items
    else:
        fields |= {"code": error.code, "reason": error.reason}
    write = LOG.info if error is None else LOG.warning
    duration_ms = round((time.monotonic() - started) * 1000, 1)
    write("HL7 message", **fields, answer=answer, duration_ms=duration_ms)
