"""Every PDU in every state that an acceptor can be in, with pynetdicom's state table as oracle.

The table says which action follows (PS3.8 table 9-10); the test knows what a peer sees of it.
"""

import socket
import threading
from contextlib import contextmanager

import pytest
from pynetdicom import evt
from pynetdicom.fsm import TRANSITION_TABLE

from tests.support.dicom_peer import (
    ABORT,
    ASSOCIATE_AC,
    ASSOCIATE_RJ,
    P_DATA,
    RELEASE,
    RELEASE_RP,
    RELEASE_RQ,
    Peer,
    associate_rq,
    echo,
    echo_rq,
    message,
    pdu,
    until,
)
from tests.support.serving import make_ae, serving

# What arrives: the event it is, and its bytes.
ARRIVALS = {
    "A-ASSOCIATE-RQ": ("Evt6", associate_rq()),
    "A-ASSOCIATE-AC": ("Evt3", pdu(2, associate_rq()[6:])),
    "A-ASSOCIATE-RJ": ("Evt4", pdu(3, b"\0\1\1\1")),
    "P-DATA-TF": ("Evt10", message(1, echo_rq())),
    "A-RELEASE-RQ": ("Evt12", RELEASE),
    "A-RELEASE-RP": ("Evt13", pdu(RELEASE_RP, b"\0\0\0\0")),
    "A-ABORT": ("Evt16", pdu(ABORT, b"\0\0\0\0")),
    "unknown": ("Evt19", pdu(0x99, b"abcd")),
    "the end": ("Evt17", None),
}
# What the peer sees: the type of the answering PDU and, of an A-ABORT, its source.
ANSWERS = {
    "AE-6": ASSOCIATE_AC,
    "DT-2": P_DATA,
    "AR-2": RELEASE_RP,  # the indication; the association's user answers at once
    "AR-8": "nothing",  # both sides asked: the acceptor waits for its own answer first (Sta10)
    "AR-3": "closed",
    "AR-6": "nothing",  # a P-DATA indication while releasing: nobody serves it any more
    "AA-1": (ABORT, 0),
    "AA-2": "closed",
    "AA-3": "closed",
    "AA-4": "closed",
    "AA-5": "closed",
    "AA-6": "nothing",
    "AA-7": (ABORT, 2),
    "AA-8": (ABORT, 2),
    "AR-5": "closed",
}


@contextmanager
def awaiting_request(server):  # Sta2
    with Peer(server.server_address) as peer:
        yield peer


@contextmanager
def established(server):  # Sta6
    with Peer(server.server_address) as peer:
        peer.associate()
        yield peer


@contextmanager
def releasing(server):  # Sta7
    assert until(lambda: not server.active_associations)
    with Peer(server.server_address) as peer:
        peer.associate()
        assert until(lambda: any(each.is_established for each in server.active_associations))
        (assoc,) = server.active_associations
        thread = threading.Thread(target=assoc.release)
        thread.start()
        assert peer.pdu()[0] == RELEASE_RQ
        yield peer
    thread.join(10)


@contextmanager
def rejected(server):  # Sta13
    with Peer(server.server_address) as peer:
        peer.send(associate_rq(calling="FOE"))
        assert peer.pdu()[0] == ASSOCIATE_RJ
        yield peer


STATES = {
    "Sta2": awaiting_request,
    "Sta6": established,
    "Sta7": releasing,
    "Sta13": rejected,
}


def answer_to(peer, sent, expected=None):
    """What the peer sees next: if it should be nothing, until it has said that it is done."""
    if sent is None:
        peer.sock.close()
        return "closed"
    peer.send(sent)
    if expected == "nothing":
        peer.sock.shutdown(socket.SHUT_WR)
    answer = peer.pdu()
    if answer is None:
        return "nothing" if expected == "nothing" else "closed"
    kind, body = answer
    return (kind, body[2]) if kind == ABORT else kind


def check(server, state, arrival):
    event, sent = ARRIVALS[arrival]
    expected = ANSWERS[TRANSITION_TABLE[event, state]]
    if state == "Sta13" and sent is not None:
        # What comes is dropped until the peer closes, an A-ABORT as well; AA-7 would say it again.
        expected = "nothing"
    with STATES[state](server) as peer:
        actual = answer_to(peer, sent, expected)
    assert until(lambda: not server.active_associations)
    echo(server.server_address)
    assert actual == expected


@pytest.fixture(scope="module")
def server():
    with serving(ae=make_ae(require_calling_aet=["PEER"], acse_timeout=30)) as server:
        yield server


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("arrival", ARRIVALS)
def test_a_pdu_in_a_state_is_answered_as_the_table_says(server, state, arrival):
    check(server, state, arrival)


@pytest.mark.parametrize("arrival", ARRIVALS)
def test_somebody_who_watches_the_transitions_sees_those_of_the_table(server, arrival):
    noted = []
    server.bind(evt.EVT_FSM_TRANSITION, noted.append)
    check(server, "Sta6", arrival)
    server.unbind(evt.EVT_FSM_TRANSITION, noted.append)
    assert noted
    for each in noted:
        assert TRANSITION_TABLE[each.fsm_event, each.current_state] == each.action


@pytest.mark.parametrize("last", [None, pdu(ABORT, b"\0\0\0\0")], ids=["hangs up", "aborts"])
def test_a_release_by_another_thread_does_not_outlast_the_association(last):
    with serving(ae=make_ae(acse_timeout=60)) as server, Peer(server.server_address) as peer:
        peer.associate()
        assert until(lambda: any(each.is_established for each in server.active_associations))
        (assoc,) = server.active_associations
        thread = threading.Thread(target=assoc.release)
        thread.start()
        assert peer.pdu()[0] == RELEASE_RQ
        answer_to(peer, last)
        thread.join(10)
        assert not thread.is_alive()
