"""The usual association, which nobody watches: it goes a short way, and leaves nothing behind."""

import gc
import select
import socket
import struct
import weakref
from contextlib import contextmanager

import pytest
from pynetdicom import evt
from pynetdicom.fsm import StateMachine

from tests.support.dicom_peer import (
    ASSOCIATE_AC,
    RELEASE,
    RELEASE_RP,
    Peer,
    associate_rq,
    echo,
    echo_rq,
    message,
    until,
)
from tests.support.serving import serving

P_DATA_BOTH_WAYS = ("Evt10", "Evt9")


@pytest.fixture
def actions(monkeypatch):
    """The events that pynetdicom's state machine is given."""
    given = []
    do_action = StateMachine.do_action

    def noted(machine, event):
        given.append(event)
        do_action(machine, event)

    monkeypatch.setattr(StateMachine, "do_action", noted)
    return given


def answers(server):
    """What the server sends in the course of an association."""
    with Peer(server.server_address) as peer:
        found = []
        for request in (associate_rq(), message(1, echo_rq()), RELEASE):
            peer.send(request)
            found.append(peer.pdu())
        peer.sock.close()
    assert until(lambda: not server.active_associations)
    return found


def test_a_usual_association_needs_no_state_machine(actions):
    with serving() as server:
        echo(server.server_address)
        assert until(lambda: not server.active_associations)
    assert actions == []


@pytest.mark.parametrize(
    "event",
    [evt.EVT_FSM_TRANSITION, evt.EVT_PDU_RECV, evt.EVT_PDU_SENT, evt.EVT_DATA_SENT],
    ids=lambda event: event.name,
)
def test_whoever_watches_has_the_state_machine_do_it_and_the_peer_sees_no_difference(
    actions, event
):
    seen = []
    with serving() as server:
        unwatched = answers(server)
    assert [kind for kind, _ in (unwatched[0], unwatched[2])] == [ASSOCIATE_AC, RELEASE_RP]
    with serving((event, seen.append)) as server:
        assert answers(server) == unwatched
    assert seen
    assert actions == ["Evt5", "Evt6", "Evt7", *P_DATA_BOTH_WAYS, "Evt12", "Evt14", "Evt17"]


def test_events_of_the_association_are_told_also_when_nobody_watches_its_pdus():
    told = []
    events = (
        evt.EVT_CONN_OPEN,
        evt.EVT_REQUESTED,
        evt.EVT_ACSE_RECV,
        evt.EVT_ACSE_SENT,
        evt.EVT_ACCEPTED,
        evt.EVT_ESTABLISHED,
        evt.EVT_RELEASED,
        evt.EVT_CONN_CLOSE,
    )
    with serving(*((each, lambda event: told.append(event.event)) for each in events)) as server:
        answers(server)
    names = [event.name for event in told]
    assert names == [
        *("EVT_CONN_OPEN", "EVT_ACSE_RECV", "EVT_REQUESTED", "EVT_ACSE_SENT", "EVT_ACCEPTED"),
        *("EVT_ESTABLISHED", "EVT_ACSE_RECV", "EVT_ACSE_SENT", "EVT_RELEASED", "EVT_CONN_CLOSE"),
    ]


def test_a_handler_that_is_bound_later_sees_the_rest():
    seen = []

    def watch(event):
        event.assoc.bind(evt.EVT_FSM_TRANSITION, lambda event: seen.append(event.fsm_event))

    with serving((evt.EVT_ESTABLISHED, watch)) as server:
        answers(server)
    assert seen == [*P_DATA_BOTH_WAYS, "Evt12", "Evt14", "Evt17"]


@contextmanager
def no_collector():
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def test_a_released_association_is_gone_without_the_garbage_collector():
    kept = []
    with serving((evt.EVT_ESTABLISHED, lambda event: kept.append(weakref.ref(event.assoc)))) as (
        server
    ):
        with no_collector():
            echo(server.server_address)
            assert until(lambda: kept and kept[0]() is None), "something points at it still"
        echo(server.server_address)


def test_who_keeps_a_released_association_finds_it_as_it_was():
    kept = []
    with serving((evt.EVT_ESTABLISHED, lambda event: kept.append(event.assoc))) as server:
        answers(server)
        (association,) = kept
        assert until(lambda: not association.is_alive())
    gc.collect()
    assert association.is_released
    assert not association.is_established
    assert association.requestor.primitive is not None
    assert association.requestor.address == "127.0.0.1"
    assert association.acceptor.supported_contexts
    assert association.acceptor.user_information
    assert [each.context_id for each in association.accepted_contexts] == [1, 3, 5]
    assert association.acse.assoc.serial == association.serial
    association.abort()
    association.release()
    association.join(5)
    with pytest.raises(RuntimeError):
        association.send_c_echo()


def test_who_keeps_a_side_of_a_released_association_learns_all_that_it_says():
    sides, gone = [], []

    def keep(event):
        sides.append((event.assoc.requestor, event.assoc.acceptor))
        gone.append(weakref.ref(event.assoc))

    with serving((evt.EVT_ESTABLISHED, keep)) as server:
        answers(server)
        assert until(lambda: gone[0]() is None)
    requestor, acceptor = sides[0]
    assert [each.context_id for each in requestor.requested_contexts] == [1, 3, 5]
    assert len(requestor.get_contexts("pcdl")) == len(acceptor.get_contexts("pcdrl")) == 3
    assert len(acceptor.supported_contexts) == len(acceptor.get_contexts("supported")) == 3
    assert acceptor.get_contexts("pcdrl")[0].result == 0
    assert (requestor.info["ae_title"], requestor.info["mode"]) == ("PEER", "requestor")
    assert requestor.assoc.is_acceptor
    with pytest.raises(ReferenceError):
        assert requestor.assoc.is_released


@pytest.mark.parametrize(
    ("event", "asked_with"), [(evt.EVT_SOP_EXTENDED, "app_info"), (evt.EVT_SOP_COMMON, "items")]
)
def test_handlers_of_extended_negotiation_are_not_asked_when_nothing_was_proposed(
    event, asked_with
):
    asked = []

    def answer(event):
        asked.append(getattr(event, asked_with))
        return {}

    with serving((event, answer)) as server:
        answers(server)
    assert asked == []


@pytest.mark.parametrize(
    "watching", [[], [(evt.EVT_FSM_TRANSITION, lambda _event: None)]], ids=["unwatched", "watched"]
)
@pytest.mark.parametrize("told", [evt.EVT_REQUESTED, evt.EVT_C_ECHO], ids=lambda each: each.name)
def test_an_association_whose_peer_is_gone_when_it_is_answered_was_not_released(told, watching):
    ended, peers = [], []

    def vanish(event):
        peers[0].sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        peers[0].sock.close()
        ready = select.poll()
        ready.register(event.assoc.dul.socket.socket, select.POLLRDHUP)
        assert ready.poll(10_000)
        return 0x0000

    with (
        serving((told, vanish), *watching, on_end=ended.append) as server,
        Peer(server.server_address) as peer,
    ):
        peers.append(peer)
        peer.send(associate_rq(), message(1, echo_rq()))
        assert until(lambda: ended)
    assert not ended[0].is_released
    assert ended[0].end_reason.startswith("connection lost")
