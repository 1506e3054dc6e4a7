"""The same dialogue with pynetdicom's server and with this one fires the same events."""

import pytest
from pydicom.dataset import Dataset
from pynetdicom import evt

from tests.support.dicom_peer import (
    ABORT,
    DATA,
    IMPLICIT,
    LAST,
    Peer,
    associate_rq,
    cancel_rq,
    data_set,
    find_rq,
    message,
    p_data,
    pdu,
    pdv,
    store_rq,
    until,
)
from tests.support.serving import make_ae, serving

TELLING = {
    "EVT_PDU_RECV": lambda event: type(event.pdu).__name__,
    "EVT_PDU_SENT": lambda event: type(event.pdu).__name__,
    "EVT_ACSE_RECV": lambda event: type(event.primitive).__name__,
    "EVT_ACSE_SENT": lambda event: type(event.primitive).__name__,
    "EVT_DIMSE_RECV": lambda event: type(event.message).__name__,
    "EVT_DIMSE_SENT": lambda event: type(event.message).__name__,
    "EVT_DATA_RECV": lambda event: bytes(event.data),
    "EVT_DATA_SENT": lambda event: bytes(event.data),
    "EVT_FSM_TRANSITION": lambda event: (
        event.current_state,
        event.fsm_event,
        event.action,
        event.next_state,
    ),
    "EVT_CONN_OPEN": lambda event: event.address[0],
    "EVT_C_STORE": lambda event: (str(event.dataset.PatientName), event.request.MessageID),
    "EVT_C_FIND": lambda event: event.identifier.to_json(),
}


class Recorder:
    """Notes every event that it is bound to."""

    def __init__(self, events):
        self.events = events
        self.noted = []

    def note(self, event):
        name = event.event.name
        self.noted.append((name, TELLING.get(name, lambda _: None)(event)))

    def _store(self, event):
        self.note(event)
        return 0x0000

    def _find(self, event):
        self.note(event)
        for patient in ("A", "B"):
            answer = Dataset()
            answer.PatientID = patient
            yield 0xFF00, answer

    @property
    def handlers(self):
        answering = {
            "EVT_C_STORE": self._store,
            "EVT_C_ECHO": self._store,
            "EVT_C_FIND": self._find,
        }
        return [(each, answering.get(each.name, self.note)) for each in self.events]


@pytest.fixture(scope="module")
def servers():
    """pynetdicom's server and this one; the tests bind and unbind."""
    ae = make_ae()
    other = ae.start_server(("127.0.0.1", 0), block=False)
    with serving() as server:
        yield other, server
    other.shutdown()


def serve_all(peer):
    """Echo, store, find, cancel too late, release."""
    peer.associate()
    peer.echo()
    peer.send(message(3, store_rq(2), data_set(padding=100)))
    assert peer.status() == 0
    keys = b"\x08\x00\x52\x00\x06\x00\x00\x00STUDY " + b"\x10\x00\x20\x00\0\0\0\0"
    peer.send(message(5, find_rq(3), keys))
    assert [peer.status() for _ in range(3)] == [0xFF00, 0xFF00, 0]
    peer.send(message(5, cancel_rq(3)))
    assert peer.echo() == 0
    peer.release()


def peer_aborts(peer):
    peer.associate()
    peer.send(pdu(ABORT, b"\0\0\0\0"))


def peer_vanishes(peer):
    peer.associate()
    peer.echo()
    peer.sock.close()


def is_rejected(peer):
    peer.send(associate_rq(calling="NOBODY"))
    assert peer.pdu()[0] == 3
    peer.sock.close()


def no_context_accepted(peer):
    peer.associate(((1, "1.2.3", (IMPLICIT,)),))
    peer.release()


def breaks_the_protocol(peer):
    peer.associate()
    peer.send(associate_rq())
    kind, body = peer.pdu()
    assert (kind, body[2]) == (ABORT, 2)
    peer.sock.close()


def in_fragments(peer):
    peer.associate()
    encoded = store_rq(9)
    peer.send(
        p_data(pdv(3, 1, encoded[:10]), pdv(3, 3, encoded[10:]), pdv(3, DATA, data_set()[:30]))
    )
    peer.send(p_data(pdv(3, DATA | LAST, data_set()[30:])))
    assert peer.status() == 0
    peer.release()


DIALOGUES = [
    serve_all,
    peer_aborts,
    peer_vanishes,
    is_rejected,
    no_context_accepted,
    breaks_the_protocol,
    in_fragments,
]
LIFE = [
    evt.EVT_CONN_OPEN,
    evt.EVT_CONN_CLOSE,
    evt.EVT_REQUESTED,
    evt.EVT_ACCEPTED,
    evt.EVT_ESTABLISHED,
    evt.EVT_RELEASED,
    evt.EVT_ABORTED,
    evt.EVT_REJECTED,
]
MESSAGES = [evt.EVT_C_ECHO, evt.EVT_C_STORE, evt.EVT_C_FIND]
EVENTS = {
    "life": LIFE + MESSAGES,
    "acse": [*LIFE, *MESSAGES, evt.EVT_ACSE_RECV, evt.EVT_ACSE_SENT],
    "dimse": [*MESSAGES, evt.EVT_DIMSE_RECV, evt.EVT_DIMSE_SENT],
    "pdu": [*MESSAGES, evt.EVT_PDU_RECV, evt.EVT_PDU_SENT],
    "data": [*MESSAGES, evt.EVT_DATA_RECV, evt.EVT_DATA_SENT],
    "states": [*MESSAGES, evt.EVT_FSM_TRANSITION],
}


def events_of(server, dialogue, events):
    recorder = Recorder(events)
    server.ae.require_calling_aet = ["PEER"] if dialogue is is_rejected else []
    for event, handler in recorder.handlers:
        server.bind(event, handler)
    with Peer(server.server_address) as peer:
        dialogue(peer)
        assert until(lambda: not server.active_associations)
    for event, handler in recorder.handlers:
        server.unbind(event, handler)
    return recorder.noted


@pytest.mark.parametrize("dialogue", DIALOGUES, ids=lambda each: each.__name__)
@pytest.mark.parametrize("events", EVENTS)
def test_the_same_dialogue_fires_the_same_events(servers, dialogue, events):
    expected, actual = (events_of(server, dialogue, EVENTS[events]) for server in servers)
    if dialogue in (peer_aborts, peer_vanishes, breaks_the_protocol):
        # pynetdicom's two threads note the abort and the close in either order.
        expected, actual = sorted(expected, key=repr), sorted(actual, key=repr)
    assert actual == expected
    assert actual or dialogue not in (serve_all, in_fragments)
