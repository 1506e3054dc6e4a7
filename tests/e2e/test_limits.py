"""Limits of a server, met by peers made of bytes: rejected with the right reason, or cut off."""

import threading
import time
from contextlib import ExitStack, contextmanager, suppress

import pytest
from pydicom.dataset import Dataset
from pynetdicom import evt

from lfscp.server.address_limits import AddressLimits
from lfscp.upperlayer.connection.limits import ReceiveLimits
from tests.support.dicom_peer import (
    ABORT,
    ASSOCIATE_RJ,
    LAST,
    Peer,
    associate_rq,
    data_set,
    echo,
    find_rq,
    message,
    nothing_left_behind,
    p_data,
    pdu,
    pdv,
    store_rq,
    until,
)
from tests.support.serving import make_ae, serving

COMMAND = 1
P_DATA = 4


def rejection_of(server, **kwargs):
    """Result, source and reason of the A-ASSOCIATE-RJ."""
    with Peer(server.server_address) as peer:
        peer.send(associate_rq(**kwargs))
        kind, body = peer.pdu()
        assert kind == ASSOCIATE_RJ
        return tuple(body[1:])


def test_associations_of_one_address_beyond_the_limit_are_rejected():
    limits = AddressLimits(max_associations=2)
    with (
        nothing_left_behind(),
        serving(limits=limits) as server,
        Peer(server.server_address) as one,
        Peer(server.server_address) as two,
    ):
        one.associate()
        two.associate()
        assert rejection_of(server) == (2, 3, 2)
        assert one.echo() == 0
        one.release()
        assert until(lambda: limits.of("127.0.0.1") == 1)
        echo(server.server_address)


def test_a_wrong_title_is_said_before_the_limit():
    limits = AddressLimits(max_associations=1)
    ae = make_ae(require_called_aet=True)
    with serving(limits=limits, ae=ae) as server, Peer(server.server_address) as one:
        one.associate()
        assert rejection_of(server, called="OTHER") == (1, 1, 7)
        assert rejection_of(server) == (2, 3, 2)


def test_who_is_far_over_the_limit_is_not_listened_to():
    limits = AddressLimits(max_associations=1)
    with nothing_left_behind(), serving(limits=limits) as server, ExitStack() as held:
        for _ in range(9):  # one is accepted; the others are rejected, and do not close
            held.enter_context(Peer(server.server_address)).send(associate_rq())
        assert until(lambda: limits.of("127.0.0.1") == 9)
        with Peer(server.server_address) as another:
            another.send(associate_rq())
            assert another.pdu() is None


def test_connections_of_a_minute_beyond_the_limit_meet_temporary_congestion():
    with serving(limits=AddressLimits(max_per_minute=2)) as server:
        for _ in range(2):
            echo(server.server_address)
        assert rejection_of(server) == (2, 3, 1)


def received_by(server_events):
    def keep(event):
        server_events.append(event.request.AffectedSOPInstanceUID)
        return 0x0000

    return (evt.EVT_C_STORE, keep)


@pytest.mark.parametrize("fragment", [10_000, 3_000_000], ids=["in fragments", "whole"])
def test_an_object_larger_than_allowed_is_refused_and_not_kept(tmp_path, fragment):
    stored = []
    limits = ReceiveLimits(max_object_bytes=1_000_000)
    options = {"receive_limits": limits, "spool_dir": tmp_path, "file_header": lambda *_: b"head"}
    ae = make_ae(maximum_pdu_size=0)
    body = data_set("1.2.3.1", padding=2_500_000)
    with (
        serving(received_by(stored), ae=ae, **options) as server,
        Peer(server.server_address) as peer,
    ):
        peer.associate()
        peer.send(message(3, store_rq(1, "1.2.3.1")))
        for at in range(0, len(body), fragment):
            last = LAST if at + fragment >= len(body) else 0
            peer.send(p_data(pdv(3, last, body[at : at + fragment])))
            assert size_of_all(tmp_path) <= 1_000_100
        _, elements, _ = peer.message()
        assert int.from_bytes(elements[0x0900], "little") == 0xA700
        assert b"object larger than 1 MB" in elements[0x0902]
        peer.send(message(3, store_rq(2, "1.2.3.2"), data_set("1.2.3.2")))
        assert peer.status() == 0, "the association goes on"
        peer.release()
    assert stored == ["1.2.3.2"]
    assert list(tmp_path.iterdir()) == []


def size_of_all(folder):
    """Bytes of the files in a folder; one may vanish meanwhile."""
    total = 0
    for each in folder.iterdir():
        with suppress(FileNotFoundError):
            total += each.stat().st_size
    return total


def drip(peer, pieces, ended):
    """Send pieces, slowly, until the other side has had enough."""
    try:
        for piece in pieces:
            peer.sock.sendall(piece)
            if ended.wait(0.05):
                return
    except OSError:
        return  # cut off, which is the point


# A byte at a time inside a PDU; and whole PDUs of a byte each.
INSIDE = [p_data(pdv(3, COMMAND | LAST, store_rq(1, "1.2.3.1"))), pdu(P_DATA, b"\0" * 60_000)[:6]]
INSIDE += [pdv(3, 0, b"\0" * 59_994)[:6], *[b"\0"] * 5000]
BETWEEN = [p_data(pdv(3, COMMAND | LAST, store_rq(1, "1.2.3.1")))]
BETWEEN += [p_data(pdv(3, 0, b"\0"))] * 5000


@pytest.mark.parametrize("pieces", [INSIDE, BETWEEN], ids=["in a PDU", "in PDUs"])
def test_a_peer_that_sends_a_byte_at_a_time_holds_no_thread(pieces):
    limits = ReceiveLimits(min_bytes_per_s=10_000)
    ae = make_ae(network_timeout=1.0)
    ended = threading.Event()
    with nothing_left_behind(), serving(ae=ae, receive_limits=limits) as server:
        with Peer(server.server_address, timeout=30) as peer:
            peer.associate()
            dripping = threading.Thread(target=drip, args=(peer, pieces, ended))
            dripping.start()
            try:
                assert peer.pdu()[0] == ABORT
            finally:
                ended.set()
                dripping.join(30)
        assert until(lambda: not server.active_associations)


def match_of_a_kilobyte():
    found = Dataset()
    found.QueryRetrieveLevel, found.StudyInstanceUID, found.StudyComments = (
        "STUDY",
        "1.2",
        "x" * 1000,
    )
    return found


@contextmanager
def asked(finding, rate):
    """A peer that has asked for matches and reads nothing itself; and reasons why it ended."""
    reasons = []
    limits, ae = ReceiveLimits(min_bytes_per_s=rate), make_ae(network_timeout=1.0)
    served = serving(
        (evt.EVT_C_FIND, finding),
        ae=ae,
        receive_limits=limits,
        on_end=lambda association: reasons.append(association.end_reason),
    )
    with served as server, Peer(server.server_address, timeout=30, receive_buffer=2048) as peer:
        peer.associate()
        peer.send(message(5, find_rq(), b"\x08\0\x52\0\x06\0\0\0STUDY "))
        yield peer, reasons


def test_a_peer_that_takes_responses_too_slowly_holds_no_thread():
    def without_end(_event):
        while True:
            yield 0xFF00, match_of_a_kilobyte()

    with asked(without_end, 200_000) as (peer, reasons):

        def read_slowly():
            with suppress(OSError):
                while not reasons and peer.sock.recv(500):
                    time.sleep(0.02)

        reading = threading.Thread(target=read_slowly)
        reading.start()
        assert until(lambda: reasons, timeout=60)
        reading.join(30)
    assert "peer too slow: took" in reasons[0]


def test_a_peer_that_takes_responses_steadily_gets_all_of_them():
    """It is waited for much longer than one that takes nothing."""

    def some(_event):
        for _ in range(800):
            yield 0xFF00, match_of_a_kilobyte()

    with asked(some, 10_000) as (peer, reasons):
        received = b""
        started = time.monotonic()
        while len(received) < 800_000:
            received += peer.sock.recv(2000)
            time.sleep(0.008)
        assert time.monotonic() - started > 2 * 1.0
    # All was sent before all was read, and nothing was asked for a while then.
    assert set(reasons) <= {"idle for longer than the network timeout"}


def test_a_slow_but_steady_peer_is_served():
    limits = ReceiveLimits(min_bytes_per_s=1000)
    ae = make_ae(network_timeout=0.5)
    body = data_set("1.2.3.1", padding=8000)
    with (
        serving(received_by([]), ae=ae, receive_limits=limits) as server,
        Peer(server.server_address) as peer,
    ):
        peer.associate()
        encoded = message(3, store_rq(1, "1.2.3.1"), body)
        started = time.monotonic()
        for at in range(0, len(encoded), 200):
            peer.send(encoded[at : at + 200])
            time.sleep(0.02)
        assert time.monotonic() - started > ae.network_timeout
        assert peer.status() == 0
        peer.release()


def test_a_pdu_full_of_tiny_fragments_is_one_object():
    body = data_set("1.2.3.1", padding=4000)
    with serving(received_by([])) as server, Peer(server.server_address) as peer:
        peer.associate()
        peer.send(p_data(pdv(3, COMMAND | LAST, store_rq(1, "1.2.3.1"))))
        tiny = [pdv(3, 0, body[at : at + 1]) for at in range(len(body))]
        peer.send(p_data(*tiny, pdv(3, 0, b""), pdv(3, LAST, b"")))
        assert peer.status() == 0
        peer.release()
