"""Whole associations made at random: any PDUs in any order, cut anywhere, through a real socket.

What the peer must see is worked out from PS3.8's table (9-10, as pynetdicom has it), PDU by PDU.
"""

import socket
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pynetdicom import evt
from pynetdicom.fsm import TRANSITION_TABLE

from tests.support.dicom_peer import (
    ABORT,
    ASSOCIATE_AC,
    COMMAND,
    LAST,
    P_DATA,
    RELEASE,
    RELEASE_RP,
    Peer,
    associate_rq,
    data_set,
    echo,
    echo_rq,
    nothing_left_behind,
    p_data,
    pdu,
    pdv,
    store_rq,
    until,
)
from tests.support.serving import make_ae, serving

BY_USER, BY_PROVIDER = 0, 2
# Events of what is no message, as bytes that never change.
PLAIN = {
    "A-ASSOCIATE-RQ": ("Evt6", associate_rq()),
    "A-ASSOCIATE-AC": ("Evt3", pdu(2, associate_rq()[6:])),
    "A-ASSOCIATE-RJ": ("Evt4", pdu(3, b"\0\1\1\1")),
    "A-RELEASE-RQ": ("Evt12", RELEASE),
    "A-RELEASE-RP": ("Evt13", pdu(RELEASE_RP, b"\0\0\0\0")),
    "A-ABORT": ("Evt16", pdu(ABORT, b"\0\0\2\1")),
    "unknown": ("Evt19", pdu(0x42, b"abcd")),
    "empty P-DATA-TF": ("Evt19", pdu(P_DATA, b"")),
    "a PDV that lies": ("Evt19", pdu(P_DATA, struct.pack(">IBB", 900, 1, 3) + b"ab")),
    "a fragment out of turn": ("Evt19", p_data(pdv(1, LAST, b"data first"))),
    "4 GB announced": ("Evt19", struct.pack(">BxI", P_DATA, 0xFFFFFFF0)),
    "another request, broken": ("Evt19", pdu(1, b"\0\1")),
}


def cut(data, sizes):
    """The data in pieces of these sizes, and the rest."""
    at = 0
    for size in sizes:
        if at + size >= len(data):
            break
        yield data[at : at + size]
        at += size
    yield data[at:]


@st.composite
def messages(draw):
    """A C-ECHO or C-STORE in fragments of any size, any number of them in a PDU."""
    sizes = st.lists(st.integers(0, 60), max_size=6)
    parts = [(1, COMMAND, echo_rq())]
    if draw(st.booleans()):
        parts = [(3, COMMAND, store_rq()), (3, 0, data_set(padding=draw(st.integers(1, 99)) * 2))]
    pdvs = []
    for context_id, kind, content in parts:
        pieces = list(cut(content, draw(sizes)))
        for number, piece in enumerate(pieces):
            last = LAST if number == len(pieces) - 1 else 0
            pdvs.append(pdv(context_id, kind | last, piece))
    pdus, group = b"", []
    for each in pdvs:
        group.append(each)
        if draw(st.booleans()):
            pdus += p_data(*group)
            group = []
    return "Evt10", pdus + (p_data(*group) if group else b"")


arrivals = st.one_of(st.sampled_from(sorted(PLAIN)).map(PLAIN.__getitem__), messages(), messages())
# Most begin as they should, so that there is something to break.
associations = st.tuples(st.booleans(), st.booleans(), st.lists(arrivals, max_size=8)).map(
    lambda drawn: [PLAIN["A-ASSOCIATE-RQ"]] * (drawn[0] or drawn[1]) + drawn[2]
)


def until_abort(arriving):
    """What arrives, up to an A-ABORT: the server closes at once, and hears no more."""
    for each in arriving:
        yield each
        if each == PLAIN["A-ABORT"]:
            return


def expected(events):
    """What the peer sees, by the table."""
    state = "Sta2"
    for event in events:
        action = TRANSITION_TABLE[event, state]
        if action == "AE-6":
            state = "Sta6"
            yield ASSOCIATE_AC
        elif action == "DT-2":
            yield P_DATA
        elif action == "AR-2":
            yield RELEASE_RP
            return
        elif action == "AA-1":
            yield ABORT, BY_USER
            return
        elif action == "AA-8":
            yield ABORT, BY_PROVIDER
            return
        else:
            assert action in ("AA-2", "AA-3"), (action, event, state)
            return


def seen(peer):
    """What the server says until it closes."""
    while (answer := peer.pdu()) is not None:
        kind, body = answer
        yield (kind, body[2]) if kind == ABORT else kind


@pytest.fixture(scope="module")
def server():
    stored = (evt.EVT_C_STORE, lambda event: 0x0000)
    with nothing_left_behind(), serving(stored, ae=make_ae(acse_timeout=5)) as server:
        yield server


@settings(max_examples=150, deadline=None, derandomize=True)
@given(associations, st.lists(st.integers(1, 400), max_size=12), st.booleans())
def test_any_sequence_is_answered_as_the_table_says(server, arriving, cuts, closes):
    arriving = list(until_abort(arriving))
    sent = b"".join(encoded for _, encoded in arriving)
    with Peer(server.server_address) as peer:
        peer.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for piece in cut(sent, cuts):
            peer.send(piece)
        answers = list(expected([event for event, _ in arriving]))
        if closes:
            peer.sock.shutdown(socket.SHUT_WR)
            assert list(seen(peer)) == answers
        else:  # it takes its answers, and goes without a word
            told = seen(peer)
            assert [next(told) for _ in answers] == answers
    assert until(lambda: not server.active_associations)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(st.binary(max_size=300), st.booleans())
def test_any_bytes_end_the_association_and_nothing_else(server, garbage, established):
    with Peer(server.server_address) as peer:
        if established:
            peer.associate()
        peer.send(garbage)
        peer.sock.shutdown(socket.SHUT_WR)
        assert len(list(seen(peer))) <= 60
    assert until(lambda: not server.active_associations)
    echo(server.server_address)
