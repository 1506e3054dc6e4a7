"""Reports that another thread has the serving thread send while its association is idle."""

import struct
import threading
from contextlib import contextmanager

import pytest
from pydicom.uid import UID
from pynetdicom import AE, evt

from lfscp.upperlayer.scp.event_reports import EventReport, NotAnsweredError, send_event_report
from tests.support.dicom_peer import (
    DATA_SET,
    IMPLICIT,
    NO_DATA_SET,
    RELEASE,
    RELEASE_RP,
    VERIFICATION,
    Peer,
    command,
    echo_rq,
    message,
    uid,
    until,
    us,
)
from tests.support.serving import serving

COMMITMENT = "1.2.840.10008.1.20.1"
INSTANCE = "1.2.840.10008.1.20.1.1"
CONTEXTS = ((1, VERIFICATION, (IMPLICIT,)), (3, COMMITMENT, (IMPLICIT,)))
N_EVENT_REPORT, N_ACTION = 0x0100, 0x0130
INFORMATION = struct.pack("<HHL", 0x0008, 0x1195, 6) + b"1.2.3\0"
REPORT = EventReport(COMMITMENT, INSTANCE, 1, INFORMATION)


def action_rq(message_id=1):
    return command(
        uid(0x0003, COMMITMENT),
        us(0x0100, N_ACTION),
        us(0x0110, message_id),
        us(0x0800, DATA_SET),
        uid(0x1001, INSTANCE),
        us(0x1008, 1),
    )


def report_rsp(message_id, status=0x0000):
    return command(
        us(0x0100, N_EVENT_REPORT | 0x8000),
        us(0x0120, message_id),
        us(0x0800, NO_DATA_SET),
        us(0x0900, status),
    )


class Reporting:
    """A server that is to report to whoever asks by N-ACTION, when a test says so."""

    def __init__(self):
        self.associations = []
        self.statuses = []
        self.failures = []
        self.ended = threading.Event()

    def take_action(self, event):
        event.assoc.expect_call()
        self.associations.append(event.assoc)
        return 0x0000, None

    def report(self):
        """Have the report sent; False when the association has ended."""
        association = self.associations[0]
        return association.call_when_idle(lambda: self._send(association))

    def _send(self, association):
        try:
            self.statuses.append(send_event_report(association, 3, REPORT))
        except NotAnsweredError as error:
            self.failures.append(str(error))


@contextmanager
def reporting(**attributes):
    """A server, and what it is told to do."""
    ae = AE("ANY-SCP")
    ae.add_supported_context(VERIFICATION)
    ae.add_supported_context(COMMITMENT, scu_role=True, scp_role=True)
    for name, value in attributes.items():
        setattr(ae, name, value)
    ours = Reporting()
    handlers = [
        (evt.EVT_N_ACTION, ours.take_action),
        (evt.EVT_CONN_CLOSE, lambda _: ours.ended.set()),
    ]
    with serving(*handlers, ae=ae) as server:
        yield ours, server.server_address


@contextmanager
def asked(address):
    """A peer that has asked by N-ACTION."""
    with Peer(address) as peer:
        peer.associate(CONTEXTS)
        peer.send(message(3, action_rq(), INFORMATION))
        assert peer.status() == 0x0000
        yield peer


def take_report(peer):
    """The Message ID of the report that comes."""
    context_id, elements, data = peer.message()
    assert context_id == 3
    assert elements[0x0100] == struct.pack("<H", N_EVENT_REPORT)
    assert UID(elements[0x0002].decode().rstrip("\0")) == COMMITMENT
    assert data == INFORMATION
    return int.from_bytes(elements[0x0110], "little")


def test_an_idle_association_gets_its_report_and_goes_on():
    with reporting() as (ours, address), asked(address) as peer:
        assert ours.report()
        peer.send(message(3, report_rsp(take_report(peer))))
        assert until(lambda: ours.statuses == [0x0000])
        assert peer.echo() == 0x0000
        peer.release()


def test_the_status_that_the_peer_answers_is_given():
    with reporting() as (ours, address), asked(address) as peer:
        ours.report()
        peer.send(message(3, report_rsp(take_report(peer), 0x0110)))
        assert until(lambda: ours.statuses == [0x0110])
        peer.release()


def test_a_request_that_crosses_is_served_before_the_report_is_answered():
    with reporting() as (ours, address), asked(address) as peer:
        ours.report()
        message_id = take_report(peer)
        for number in range(5, 8):
            assert peer.echo(number) == 0x0000
        peer.send(message(3, report_rsp(message_id)))
        assert until(lambda: ours.statuses == [0x0000])
        peer.release()


def test_request_and_answer_may_come_in_one_piece():
    with reporting() as (ours, address), asked(address) as peer:
        ours.report()
        peer.send(message(3, report_rsp(take_report(peer))), message(1, echo_rq(9)))
        assert peer.status() == 0x0000
        assert ours.statuses == [0x0000]
        peer.release()


def test_a_peer_that_sends_without_a_pause_is_not_interrupted():
    with reporting() as (ours, address), asked(address) as peer:
        ours.report()
        for number in range(2, 50):
            assert peer.echo(number) == 0x0000  # else the report would be what comes
        peer.send(message(3, report_rsp(take_report(peer))))
        assert until(lambda: ours.statuses == [0x0000])
        peer.release()


def test_several_reports_follow_one_another():
    with reporting() as (ours, address), asked(address) as peer:
        peer.send(message(3, action_rq(2), INFORMATION))
        assert peer.status() == 0x0000
        ours.report()
        ours.report()
        for _ in range(2):
            peer.send(message(3, report_rsp(take_report(peer))))
        assert until(lambda: len(ours.statuses) == 2)
        assert not ours.report()  # no more is expected
        peer.release()


def test_an_association_that_was_released_reports_no_more():
    with reporting() as (ours, address), asked(address) as peer:
        peer.release()
        assert ours.ended.wait(10)
        assert until(lambda: not ours.associations[0].is_alive())
        assert not ours.report()
        assert ours.statuses == ours.failures == []


def test_a_release_instead_of_an_answer_is_answered():
    with reporting() as (ours, address), asked(address) as peer:
        ours.report()
        take_report(peer)
        peer.send(RELEASE)
        assert peer.pdu() == (RELEASE_RP, b"\0\0\0\0")
        assert until(lambda: len(ours.failures) == 1)
        assert "ended the association" in ours.failures[0]


def test_a_call_that_was_not_made_is_made_when_the_association_ends():
    with reporting() as (ours, address), asked(address) as peer:
        association = ours.associations[0]
        seen = []
        peer.send(message(1, echo_rq(2))[:20])  # so that it is not idle
        association.call_when_idle(lambda: seen.append(association.is_established))
        peer.sock.close()
        assert until(lambda: seen == [False])


def test_an_answer_that_comes_too_late_ends_nothing():
    with reporting(dimse_timeout=0.2) as (ours, address), asked(address) as peer:
        ours.report()
        message_id = take_report(peer)
        assert until(lambda: ours.failures == ["the peer did not answer in time"])
        peer.send(message(3, report_rsp(message_id)))
        assert peer.echo() == 0x0000
        peer.release()


def test_an_idle_association_that_expects_a_call_has_its_timeout():
    with reporting(network_timeout=0.3) as (ours, address), asked(address) as peer:
        kind, _ = peer.pdu()
        assert kind == 7  # A-ABORT
        assert until(lambda: not ours.associations[0].is_alive())


def test_an_abort_from_another_thread_ends_the_wait():
    with reporting() as (ours, address), asked(address) as peer:
        ours.associations[0].abort(block=False)
        kind, _ = peer.pdu()
        assert kind == 7
        assert until(lambda: not ours.associations[0].is_alive())
        assert not ours.report()


@pytest.mark.parametrize("status", [0x0107, 0xB000])
def test_a_warning_is_given_as_it_is(status):
    with reporting() as (ours, address), asked(address) as peer:
        ours.report()
        peer.send(message(3, report_rsp(take_report(peer), status)))
        assert until(lambda: ours.statuses == [status])
        peer.release()
