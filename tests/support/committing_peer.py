"""A PACS made of pynetdicom that stores, is asked to commit, and reports as a test wants it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from pydicom.dataset import Dataset
from pynetdicom import AE, build_role, evt
from pynetdicom.sop_class import CTImageStorage, Verification

COMMITMENT = "1.2.840.10008.1.20.1"
INSTANCE = "1.2.840.10008.1.20.1.1"
DEADLINE_S = 60
IMPLICIT = "1.2.840.10008.1.2"
EXPLICIT = "1.2.840.10008.1.2.1"


def item(sop_class_uid: str, sop_instance_uid: str, reason: int | None = None) -> Dataset:
    """One instance of a report; with a reason if the peer does not commit to it."""
    made = Dataset()
    made.ReferencedSOPClassUID, made.ReferencedSOPInstanceUID = sop_class_uid, sop_instance_uid
    if reason is not None:
        made.FailureReason = reason
    return made


def report(asked: Dataset, failing: dict[str, int] | None = None) -> tuple[int, Dataset]:
    """The event type and Event Information that answer what was asked.

    Args:
        failing: the Failure Reason of each SOP Instance UID that is not committed to.
    """
    reasons = failing or {}
    made = Dataset()
    made.TransactionUID = asked.TransactionUID
    good, bad = [], []
    for each in asked.ReferencedSOPSequence:
        uids = (each.ReferencedSOPClassUID, each.ReferencedSOPInstanceUID)
        (bad if uids[1] in reasons else good).append(item(*uids, reasons.get(uids[1])))
    if good:
        made.ReferencedSOPSequence = good
    if bad:
        made.FailedSOPSequence = bad
    return (2 if bad else 1), made


@dataclass
class CommittingPeer:
    """The peer.

    Attributes:
        port: where it listens.
        stored: the SOP Instance UIDs it got, in order.
        asked: the Action Information of each request that it took.
        store_answers: the status of each C-STORE, in turn; then success.
        answers: the same of each N-ACTION.
        reports_here: whether it reports on the association that it was asked on.
        failing: what it does not commit to, with the reason; looked at when it reports.
    """

    ae_title: str = "PACS"
    port: int = 0
    stored: list[str] = field(default_factory=list)
    asked: list[Dataset] = field(default_factory=list)
    store_answers: list[int] = field(default_factory=list)
    answers: list[int] = field(default_factory=list)
    reports_here: bool = False
    failing: dict[str, int] = field(default_factory=dict)
    news: threading.Condition = field(default_factory=threading.Condition)

    def on_store(self, event: evt.Event) -> int:
        """Take an object."""
        if self.store_answers and (status := self.store_answers.pop(0)):
            return status
        self.stored.append(str(event.request.AffectedSOPInstanceUID))
        return 0x0000

    def on_action(self, event: evt.Event) -> tuple[int, None]:
        """Take a request, or refuse it."""
        if self.answers and (status := self.answers.pop(0)):
            return status, None
        asked = event.action_information
        with self.news:
            self.asked.append(asked)
            self.news.notify_all()
        if self.reports_here:
            threading.Thread(target=self._report_here, args=(event.assoc, asked)).start()
        return 0x0000, None

    def _report_here(self, association: Any, asked: Dataset) -> None:
        kind, information = report(asked, self.failing)
        association.send_n_event_report(information, kind, COMMITMENT, INSTANCE)

    def wait_until_asked(self, times: int = 1) -> Dataset:
        """The Action Information of the last request, once there are so many."""
        with self.news:
            assert self.news.wait_for(lambda: len(self.asked) >= times, DEADLINE_S)
            return self.asked[times - 1]

    def send_report(
        self,
        to: tuple[str, int],
        information: Dataset | None,
        kind: int = 1,
        *,
        instance: str = INSTANCE,
        calling: str = "",
        called: str = "LFSCP",
        syntax: str = IMPLICIT,
    ) -> Dataset:
        """Open an association with the role of the SCP, and report; the answer's status set."""
        ae = AE(calling or self.ae_title)
        ae.add_requested_context(COMMITMENT, syntax)
        association = ae.associate(
            *to, ae_title=called, ext_neg=[build_role(COMMITMENT, scp_role=True)]
        )
        assert association.is_established
        try:
            answer, _ = association.send_n_event_report(information, kind, COMMITMENT, instance)
            return answer
        finally:
            association.release()


@contextmanager
def committing_peer(*, commits: bool = True, **options: Any) -> Iterator[CommittingPeer]:
    """A peer on a free port; without the class of storage commitment if it does not commit."""
    peer = CommittingPeer(**options)
    ae = AE(peer.ae_title)
    for sop_class in (CTImageStorage, Verification, *([COMMITMENT] if commits else [])):
        ae.add_supported_context(sop_class, [IMPLICIT, EXPLICIT])
    handlers: list[tuple[Any, Callable[..., Any]]] = [
        (evt.EVT_C_STORE, peer.on_store),
        (evt.EVT_N_ACTION, peer.on_action),
    ]
    server = ae.start_server(("127.0.0.1", 0), block=False, evt_handlers=handlers)
    peer.port = server.server_address[1]
    try:
        yield peer
    finally:
        server.shutdown()
