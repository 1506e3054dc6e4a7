"""Peers that say odd things about their limits, in their UIDs, and at an association's end."""

import pytest
from pynetdicom import evt

from tests.support.dicom_peer import (
    ABORT,
    RELEASE_RQ,
    Peer,
    associate_rq,
    data_set,
    find_rq,
    message,
    nothing_left_behind,
    pdu,
    store_rq,
    until,
)
from tests.support.serving import make_ae, serving

GARBAGE = pdu(0x99, b"")


@pytest.mark.parametrize("before", [b"", associate_rq()], ids=["no request", "established"])
def test_a_stream_of_garbage_is_answered_once(before):
    with nothing_left_behind(), serving(ae=make_ae(acse_timeout=5)) as server:
        with Peer(server.server_address) as peer:
            peer.send(before, GARBAGE * 500)
            if before:
                peer.pdu()
            assert peer.pdu()[0] == ABORT
            peer.sock.settimeout(0.2)
            with pytest.raises(TimeoutError):  # it waits for the peer to close, and says no more
                peer.pdu()
        assert until(lambda: not server.active_associations)


@pytest.mark.parametrize("source", [1, 2, 255])
@pytest.mark.parametrize("reason", [3, 200])
@pytest.mark.parametrize("before", [b"", associate_rq()], ids=["no request", "established"])
def test_an_abort_of_a_source_and_reason_that_mean_nothing_is_an_abort(
    caplog, before, source, reason
):
    with serving() as server:
        with Peer(server.server_address) as peer:
            peer.send(before, pdu(ABORT, bytes([0, 0, source, reason])))
            if before:
                peer.pdu()
            assert peer.pdu() is None
        assert until(lambda: not server.active_associations)
    assert not [record for record in caplog.records if record.exc_info]


def test_a_peer_that_does_not_state_its_largest_pdu_is_answered():
    request = associate_rq()
    at = request.index(b"\x51\x00\x00\x04")
    user, length = at - 4, int.from_bytes(request[at - 2 : at], "big")
    without = request[: user + 2] + (length - 8).to_bytes(2, "big") + request[at + 8 :]
    without = without[:2] + (len(without) - 6).to_bytes(4, "big") + without[6:]
    found_nothing = (evt.EVT_C_FIND, lambda event: iter(()))
    with serving(found_nothing) as server, Peer(server.server_address) as peer:
        peer.send(without)
        assert peer.pdu()[0] == 2
        peer.send(message(5, find_rq(), b"\x08\0\x52\0\x06\0\0\0STUDY "))
        assert peer.status() == 0x0000
        assert peer.echo() == 0x0000
        peer.release()


@pytest.mark.parametrize("behind", ["", "\0", " ", "\n", "\t", "\r\n"], ids=repr)
def test_space_around_a_uid_is_no_part_of_it(behind):
    named = []

    def store(event):
        request = event.request
        named.append((request.AffectedSOPClassUID.name, request.AffectedSOPInstanceUID))
        return 0x0000

    with serving((evt.EVT_C_STORE, store)) as server, Peer(server.server_address) as peer:
        peer.associate()
        peer.send(message(3, store_rq(instance="1.2.3.4" + behind), data_set()))
        assert peer.status() == 0
        peer.release()
    assert named == [("CT Image Storage", "1.2.3.4")]


@pytest.mark.parametrize("response", ["A-ABORT", "A-RELEASE"])
def test_a_shorter_network_timeout_holds_for_those_who_are_idle_already(response):
    ae = make_ae(network_timeout=600)
    with serving(ae=ae) as server, Peer(server.server_address) as peer:
        peer.associate()
        assert until(lambda: any(each.is_established for each in server.active_associations))
        (association,) = server.active_associations
        association.network_timeout_response = response
        ae.network_timeout = 0.05
        kind, _ = peer.pdu()
        assert kind == (ABORT if response == "A-ABORT" else RELEASE_RQ)
        peer.sock.close()
        assert until(lambda: not server.active_associations)
        assert association.end_reason == "idle for longer than the network timeout"


def test_a_shorter_network_timeout_ends_nobody_who_has_asked_since():
    ae = make_ae(network_timeout=600)
    with serving(ae=ae) as server, Peer(server.server_address) as peer:
        peer.associate()
        assert until(lambda: any(each.is_established for each in server.active_associations))
        (association,) = server.active_associations
        since = association._idle_since
        assert peer.echo() == 0
        assert until(lambda: association._idle_since != since)
        association._end_if_idle(600, since)
        assert peer.echo() == 0
        ae.network_timeout = None
        ae.network_timeout = 600
        assert peer.echo() == 0
        peer.release()
