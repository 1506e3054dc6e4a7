"""A modality that stores objects, asks for commitment, and takes the reports: pynetdicom's."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from io import BytesIO
from typing import Any

from pydicom.dataset import Dataset
from pydicom.uid import UID
from pynetdicom import AE, evt
from pynetdicom.association import Association
from pynetdicom.dimse_primitives import N_ACTION

from tests.support.dicom_peer import until
from tests.support.pynetdicom_client import close
from tests.support.pynetdicom_reactor import paused, well_paused
from tests.support.served_archive import CT

COMMITMENT = "1.2.840.10008.1.20.1"
INSTANCE = "1.2.840.10008.1.20.1.1"
PATIENCE_S = 60.0

Named = tuple[str, str]  # SOP class and instance


def action_information(transaction_uid: str, references: Iterable[Named]) -> Dataset:
    """What asks for commitment."""
    information = Dataset()
    information.TransactionUID = transaction_uid
    items = []
    for sop_class, instance in references:
        item = Dataset()
        item.ReferencedSOPClassUID = sop_class
        item.ReferencedSOPInstanceUID = instance
        items.append(item)
    information.ReferencedSOPSequence = items
    return information


class HeldAnswer:
    """Answers a report with success, but not before it may."""

    def __init__(self) -> None:
        self.has_report, self.may_answer = threading.Event(), threading.Event()

    def __call__(self, _: Report) -> int:
        self.has_report.set()
        self.may_answer.wait(PATIENCE_S)
        return 0x0000


@dataclass(frozen=True)
class Report:
    """A report as it came."""

    event_type: int
    transaction_uid: str
    committed: list[str]
    failed: dict[str, int]  # Failure Reason by SOP Instance UID
    on_new_association: bool
    calling_ae_title: str

    @classmethod
    def of(cls, event: evt.Event) -> Report:
        information = event.event_information
        return cls(
            event.event_type,
            str(information.TransactionUID),
            [
                str(each.ReferencedSOPInstanceUID)
                for each in information.get("ReferencedSOPSequence", [])
            ],
            {
                str(each.ReferencedSOPInstanceUID): int(each.FailureReason)
                for each in information.get("FailedSOPSequence", [])
            },
            bool(event.assoc.is_acceptor),
            str(event.assoc.requestor.ae_title).strip(),
        )


@dataclass
class Modality:
    """One; its reports are all that have come.

    Attributes:
        answer: called with each report; gives the status to answer.
    """

    ae_title: str = "MODALITY"
    reports: list[Report] = field(default_factory=list)
    answer: Callable[[Report], int] = lambda _: 0x0000

    def __post_init__(self) -> None:
        self._changed = threading.Condition()

    def _take(self, event: evt.Event) -> tuple[int, None]:
        report = Report.of(event)
        status = self.answer(report)
        with self._changed:
            self.reports.append(report)
            self._changed.notify_all()
        return status, None

    def wait_for_report(self, count: int = 1) -> Report:
        """Wait until so many reports have come; gives the last of them."""
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.reports) >= count, PATIENCE_S)
        return self.reports[count - 1]

    @contextmanager
    def association(
        self, port: int, *, called: str = "LFSCP", syntax: str | None = None
    ) -> Iterator[Association]:
        """An association with a node, released at the end."""
        ae = AE(self.ae_title)
        ae.acse_timeout = ae.dimse_timeout = ae.network_timeout = PATIENCE_S
        ae.add_requested_context(COMMITMENT, *([syntax] if syntax else []))
        ae.add_requested_context(CT, "1.2.840.10008.1.2.1")
        handlers = [(evt.EVT_N_EVENT_REPORT, self._take)]
        assoc = ae.associate("127.0.0.1", port, ae_title=called, evt_handlers=handlers)
        assert assoc.is_established
        try:
            yield well_paused(assoc)
        finally:
            # A release must not overtake the answer to a report, which has a thread of its own.
            assert until(lambda: not _answering(), PATIENCE_S)
            if assoc.is_established:
                assoc.release()
            close(assoc)

    @contextmanager
    def listening(self, **options: Any) -> Iterator[int]:
        """Take reports on new associations; gives the port."""
        ae = AE(self.ae_title)
        ae.add_supported_context(COMMITMENT, scu_role=False, scp_role=True)
        handlers = [(evt.EVT_N_EVENT_REPORT, self._take)]
        server = ae.start_server(("127.0.0.1", 0), block=False, evt_handlers=handlers, **options)
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()

    def ask(self, port: int, transaction_uid: str, references: Iterable[Named]) -> int | None:
        """Ask on an association of its own, which is released at once; gives the status."""
        with self.association(port) as assoc:
            return ask(assoc, transaction_uid, references)


def _answering() -> list[threading.Thread]:
    """pynetdicom's threads that answer reports."""
    return [each for each in threading.enumerate() if "_serve_request" in each.name]


def ask(
    assoc: Association,
    transaction_uid: str,
    references: Iterable[Named],
    *,
    action_type: int = 1,
    instance: str = INSTANCE,
) -> int | None:
    """Send the N-ACTION; gives the status, or None without an answer."""
    information = action_information(transaction_uid, references)
    return send(assoc, information, action_type=action_type, instance=instance).get("Status")


def send_bytes(assoc: Association, information: bytes) -> Dataset:
    """Send an N-ACTION with these bytes as its Action Information."""
    request = N_ACTION()
    request.MessageID = 1
    request.RequestedSOPClassUID = UID(COMMITMENT)
    request.RequestedSOPInstanceUID = UID(INSTANCE)
    request.ActionTypeID = 1
    request.ActionInformation = BytesIO(information)
    context = next(each for each in assoc.accepted_contexts if each.abstract_syntax == COMMITMENT)
    with paused(assoc):
        assoc.dimse.send_msg(request, context.context_id)
        _, response = assoc.dimse.get_msg(block=True)
    answer = Dataset()
    if response is not None:
        answer.Status, answer.ErrorComment = response.Status, response.ErrorComment or ""
    return answer


def send(
    assoc: Association,
    information: Dataset | None,
    *,
    action_type: int = 1,
    instance: str = INSTANCE,
) -> Dataset:
    """Send an N-ACTION; gives the answer's elements."""
    answer, _ = assoc.send_n_action(information, action_type, COMMITMENT, instance)
    return answer
