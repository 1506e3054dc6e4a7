"""Asking a peer to commit, when it answers early, wrongly, without end, or not at all."""

from __future__ import annotations

import socket
from collections.abc import Callable

import pytest

from lfscp.archive.workflow.commitment.references import Failure, Reference
from lfscp.archive.workflow.commitment.requests import Taken
from lfscp.scu.commit import Question, ask
from lfscp.scu.errors import PeerError, PeerErrorKind
from lfscp.scu.peer import Peer
from lfscp.services.commitment.n_event_report import Report
from tests.support import dicom_peer as peer
from tests.support.scripted_peer import ACCEPTED, RELEASED, response, scripted, value

COMMITMENT, INSTANCE = "1.2.840.10008.1.20.1", "1.2.840.10008.1.20.1.1"
TRANSACTION = "1.2.826.0.1"
ASKED = Question(TRANSACTION, [Reference(peer.CT, "1.2.3.4"), Reference(peer.CT, "1.2.3.5")])
C_STORE_RSP, N_EVENT_REPORT, N_EVENT_REPORT_RSP, N_ACTION_RSP = 0x8001, 0x0100, 0x8100, 0x8130
TAKEN = peer.message(1, response(N_ACTION_RSP, COMMITMENT, 0x0000))
RELEASE_RQ = peer.RELEASE


def padded(uid: str) -> bytes:
    return uid.encode() + b"\0" * (len(uid) % 2)


def items(tag: int, *contents: bytes) -> bytes:
    joined = b"".join(value(0xFFFE, 0xE000, content) for content in contents)
    return value(0x0008, tag, joined)


def reference(uid: str) -> bytes:
    return value(0x0008, 0x1150, padded(peer.CT)) + value(0x0008, 0x1155, padded(uid))


def report(data: bytes | None = None, message_id: int = 1) -> bytes:
    """A report: by default one instance is committed to, and one is not stored there."""
    if data is None:
        failed = value(0x0008, 0x1197, b"\x12\x01")
        data = value(0x0008, 0x1195, padded(TRANSACTION))
        data += items(0x1198, reference("1.2.3.5") + failed) + items(0x1199, reference("1.2.3.4"))
    command = peer.command(
        peer.uid(0x0002, COMMITMENT),
        peer.us(0x0100, N_EVENT_REPORT),
        peer.us(0x0110, message_id),
        peer.us(0x0800, peer.DATA_SET),
        peer.uid(0x1000, INSTANCE),
        peer.us(0x1002, 2),
    )
    return peer.message(1, command, data)


def ends_message(body: bytes) -> bool:
    """Whether a P-DATA-TF PDU with one PDV ends a message."""
    control = body[5]
    is_command = control & peer.COMMAND
    follows = is_command and peer.read_command(body[6:])[0x0800] != b"\x01\x01"
    return bool(control & peer.LAST) and not follows


def asked_then(*said: bytes) -> Callable[[socket.socket], None]:
    """A peer that answers each message that it gets with the next of these, and a release."""

    def talk(connection: socket.socket) -> None:
        here = peer.Peer.__new__(peer.Peer)
        here.sock = connection
        here.pdu()  # the A-ASSOCIATE-RQ
        here.send(ACCEPTED)
        left = iter(said)
        while (heard := here.pdu()) is not None:
            kind, body = heard
            if kind == peer.RELEASE_RQ:
                here.send(RELEASED)
            elif kind == peer.P_DATA and ends_message(body):
                here.send(next(left, b""))

    return talk


class Reports:
    """Takes what is reported."""

    def __init__(self) -> None:
        self.taken: list[tuple[Report, str]] = []

    def keep(self, told: Report, ae_title: str) -> Taken:
        self.taken.append((told, ae_title))
        known = told.transaction_uid == TRANSACTION
        return Taken.KEPT if known else Taken.UNKNOWN_TRANSACTION

    def ask(self, asked: Peer, wait_s: float = 600.0, *, ever: bool = True) -> None:
        """Ask, until the report is there."""
        ask(asked, ASKED, keep=self.keep, is_enough=lambda: ever and self.is_there, wait_s=wait_s)

    @property
    def is_there(self) -> bool:
        """Whether the report has come."""
        return any(told.transaction_uid == TRANSACTION for told, _ in self.taken)


EXPECTED = Report(TRANSACTION, ("1.2.3.4",), (Failure(peer.CT, "1.2.3.5", 0x0112),))


@pytest.mark.parametrize("said", [(report(), TAKEN), (TAKEN + report(),)], ids=["before", "with"])
def test_a_report_may_come_before_the_answer_or_with_it(said: tuple[bytes, ...]) -> None:
    reports = Reports()
    with scripted(asked_then(*said)) as asked:
        reports.ask(asked)
    assert reports.taken == [(EXPECTED, "X")]


def test_what_is_no_report_is_refused_and_the_report_waited_for() -> None:
    store = peer.message(1, peer.store_rq(1), peer.data_set())
    stranger = value(0x0008, 0x1195, padded("1.2.3")) + items(0x1199, reference("1.2.3.4"))
    said = (TAKEN + store, report(b"\xff" * 20, 2), report(stranger, 3), report(None, 4))
    reports = Reports()
    with scripted(asked_then(*said)) as asked:
        reports.ask(asked)
    assert [told.transaction_uid for told, _ in reports.taken] == ["1.2.3", TRANSACTION]


def test_a_peer_may_release_or_abort_without_a_report() -> None:
    for end in (RELEASE_RQ, peer.pdu(peer.ABORT, b"\0\0\0\0")):
        reports = Reports()
        with scripted(asked_then(TAKEN + end)) as asked:
            reports.ask(asked)
        assert reports.taken == []


def test_a_peer_that_reports_without_end_is_left_when_the_time_is_over() -> None:
    stranger = value(0x0008, 0x1195, padded("1.2.3")) + items(0x1199, reference("1.2.3.4"))

    reports = Reports()
    with scripted(asked_then(TAKEN + report(stranger), *[report(stranger)] * 10_000)) as asked:
        reports.ask(asked, 0.3)
    assert reports.taken


def hang_up(connection: socket.socket) -> None:
    connection.sendall(ACCEPTED)
    connection.shutdown(socket.SHUT_WR)


@pytest.mark.parametrize(
    ("script", "kind", "reason"),
    [
        (hang_up, PeerErrorKind.ABORTED, "ended the association"),
        (
            asked_then(peer.message(1, response(N_ACTION_RSP, COMMITMENT, 0x0124))),
            PeerErrorKind.REFUSED,
            "refused to commit: status 0x0124",
        ),
        (
            asked_then(peer.message(1, response(C_STORE_RSP, COMMITMENT, 0x0000))),
            PeerErrorKind.ABORTED,
            "ended the association",
        ),
    ],
    ids=["hangs up", "refuses", "answers something else"],
)
def test_a_peer_that_does_not_take_the_question_is_named(
    script: Callable[[socket.socket], None], kind: PeerErrorKind, reason: str
) -> None:
    with scripted(script, dimse_timeout_s=5.0) as asked, pytest.raises(PeerError) as error:
        Reports().ask(asked)
    assert error.value.kind is kind
    assert error.value.reason.startswith(reason)


def test_a_report_larger_than_any_answer_to_the_question_ends_the_association() -> None:
    command = report()[: len(report(b"")) - len(peer.p_data(peer.pdv(1, peer.LAST, b"")))]
    piece = peer.p_data(peer.pdv(1, peer.DATA, bytes(16000)))
    reports = Reports()
    with scripted(asked_then(TAKEN + command + piece * 300)) as asked:
        reports.ask(asked)
    assert reports.taken == []
