"""A large object is read several PDUs in a call: however it comes, its bytes are the same."""

import random
import resource
import time
from collections import deque
from contextlib import contextmanager
from pathlib import Path

import pytest
from pydicom import Dataset
from pynetdicom import evt

from lfscp.upperlayer.connection.limits import ReceiveLimits
from tests.support.dicom_peer import (
    ABORT,
    COMMAND,
    DATA,
    LAST,
    P_DATA,
    Peer,
    data_set,
    echo_rq,
    find_rq,
    message,
    p_data,
    pdu,
    pdv,
    store_rq,
    until,
)
from tests.support.serving import make_ae, serving

KB = 1024


class Store:
    """A C-STORE handler that keeps what it was given."""

    def __init__(self):
        self.received = []

    def __call__(self, event):
        self.received.append(event.request.DataSet.getvalue())
        return 0x0000

    @property
    def handler(self):
        return (evt.EVT_C_STORE, self)


@contextmanager
def memory_limited(more):
    """Let this process have so many bytes more of address space than it has now."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limits = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + more, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, limits)


def store_of(body, sizes):
    """A C-STORE whose data set comes in fragments of these sizes, each in a PDU of its own."""
    pdus = [p_data(pdv(3, COMMAND | LAST, store_rq()))]
    at = 0
    for number, size in enumerate(sizes):
        last = LAST if number + 1 == len(sizes) else 0
        pdus.append(p_data(pdv(3, DATA | last, body[at : at + size])))
        at += size
    assert at == len(body)
    return pdus


def cut(size, fragment):
    """The sizes of `size` bytes in fragments of one size, the last one shorter or as long."""
    return [fragment] * (size // fragment) + ([size % fragment] if size % fragment else [])


SIZE = 720_000
BODY = data_set(padding=SIZE - len(data_set(padding=2)) + 2)
CUTS = {
    "the last one shorter": cut(SIZE, 131_060),
    "all as long": cut(SIZE, 90_000),
    "more of them than one call reads": cut(SIZE, 2 * KB),
    "of 16 KB": cut(SIZE, 16 * KB - 6),
    "a short one in between": [64 * KB, 64 * KB, 100, *cut(SIZE - 128 * KB - 100, 64 * KB)],
    "a longer one in between": [64 * KB, 64 * KB, 100 * KB, *cut(SIZE - 228 * KB, 64 * KB)],
    "longer and longer": [1, 10, 100, 1000, 10_000, 88_889, 100_000, *[130_000] * 4],
    "shorter and shorter": [*[130_000] * 4, 100_000, 88_889, 10_000, 1000, 100, 10, 1],
    "small ones and then longer ones": [*[KB] * 100, *cut(SIZE - 100 * KB, 128_000)],
}


@pytest.mark.parametrize("sizes", CUTS.values(), ids=CUTS)
@pytest.mark.parametrize("piece", [None, 100_000, 4099], ids=lambda size: f"sent in {size}")
@pytest.mark.parametrize("is_kept", [False, True], ids=["in memory", "written behind"])
def test_an_object_is_the_same_however_it_is_cut(tmp_path, sizes, piece, is_kept):
    store = Store()
    options = {"spool_dir": tmp_path, "file_header": lambda *_: b"head"} if is_kept else {}
    with serving(store.handler, **options) as server, Peer(server.server_address) as peer:
        peer.associate()
        for _ in range(2):
            stream = b"".join(store_of(BODY, sizes))
            for at in range(0, len(stream), piece or len(stream)):
                peer.send(stream[at : at + (piece or len(stream))])
            assert peer.status() == 0
        assert peer.echo() == 0
        peer.release()
    assert store.received == [BODY, BODY]


def test_what_follows_the_last_fragment_at_once_is_the_next_message():
    store = Store()
    with serving(store.handler) as server, Peer(server.server_address) as peer:
        peer.associate()
        one = b"".join(store_of(BODY, cut(SIZE, 100 * KB)))
        peer.send(one, message(1, echo_rq()), one, message(1, echo_rq()))
        assert [peer.status() for _ in range(4)] == [0, 0, 0, 0]
        peer.release()
    assert store.received == [BODY, BODY]


@pytest.mark.parametrize("is_kept", [False, True], ids=["in memory", "written behind"])
def test_objects_cut_at_random_and_sent_in_random_pieces_are_whole(tmp_path, is_kept):
    chance = random.Random(7)
    store, bodies = Store(), []
    options = {"spool_dir": tmp_path, "file_header": lambda *_: b"head"} if is_kept else {}
    with (
        serving(store.handler, **options) as server,
        Peer(server.server_address, nagle=False) as peer,
    ):
        peer.associate()
        for _ in range(30):
            body = data_set(padding=chance.randrange(1, 300 * KB))
            bodies.append(body)
            sizes, rest, usual = [], len(body), chance.choice((500, 5000, 50_000))
            while rest:
                size = min(rest, usual if chance.random() < 0.9 else chance.randrange(1, 60_000))
                sizes.append(size)
                rest -= size
            stream = b"".join(store_of(body, sizes))
            while stream:
                size = chance.randrange(1, 100_000)
                peer.send(stream[:size])
                stream = stream[size:]
            assert peer.status() == 0
        peer.release()
    assert store.received == bodies
    assert list(tmp_path.iterdir()) == []


def test_an_object_larger_than_the_buffers_is_whole(tmp_path):
    store, body = Store(), data_set(padding=11_000 * KB)
    with (
        serving(store.handler, spool_dir=tmp_path) as server,
        Peer(server.server_address) as peer,
    ):
        peer.associate()
        peer.send(*store_of(body, cut(len(body), 131_060)))
        assert peer.status() == 0
        peer.release()
    assert store.received == [body]
    assert list(tmp_path.iterdir()) == []


def test_an_object_that_grows_too_large_is_refused_and_the_next_is_taken():
    store = Store()
    limits = ReceiveLimits(max_object_bytes=400 * KB)
    with (
        serving(store.handler, receive_limits=limits) as server,
        Peer(server.server_address) as peer,
    ):
        peer.associate()
        peer.send(*store_of(BODY, cut(SIZE, 64 * KB)))
        assert peer.status() == 0xA700
        small = data_set(padding=399 * KB)
        peer.send(*store_of(small, cut(len(small), 64 * KB)))
        assert peer.status() == 0
        peer.release()
    assert store.received == [small]


def test_what_has_come_of_a_fragment_counts_for_the_pace_of_a_slow_sender():
    store, limits = Store(), ReceiveLimits(min_bytes_per_s=40_000)
    body = data_set(padding=100 * KB)
    with (
        serving(store.handler, ae=make_ae(network_timeout=1), receive_limits=limits) as server,
        Peer(server.server_address, nagle=False) as peer,
    ):
        peer.associate()
        stream = b"".join(store_of(body, cut(len(body), 45_000)))
        for at in range(0, len(stream), 3000):  # 60,000 bytes a second, a fragment in 0.75 s
            peer.send(stream[at : at + 3000])
            time.sleep(0.05)
        assert peer.status() == 0
        peer.release()
    assert store.received == [body]


OUT_OF_TURN = {
    "a command fragment": p_data(pdv(3, COMMAND, b"abc")),
    "another presentation context": p_data(pdv(5, DATA, b"abc")),
    "a length that lies": pdu(P_DATA, pdv(3, DATA, b"abc") + b"\0\0"),
    "no PDV": pdu(P_DATA, b""),
    "an unknown PDU": pdu(0x42, b"\0\0\0\0"),
    "an association request": pdu(1, b"\0" * 68),
}


@pytest.mark.parametrize("what", OUT_OF_TURN.values(), ids=OUT_OF_TURN)
@pytest.mark.parametrize("pause_s", [0, 0.05], ids=["at once", "later"])
def test_what_must_not_come_between_fragments_is_aborted(what, pause_s):
    store = Store()
    with serving(store.handler) as server, Peer(server.server_address) as peer:
        peer.associate()
        peer.send(*store_of(BODY, cut(SIZE, 64 * KB))[:5])
        time.sleep(pause_s)  # so that it comes alone, and not with what is before it
        peer.send(what)
        kind, _ = peer.pdu()
        assert kind == ABORT
    assert store.received == []


FRAGMENTS = {
    "small": cut(9000 * KB, 100 * KB),
    "large": cut(9000 * KB, 6000 * KB),
    "small and then large": [20_000, *cut(9000 * KB - 20_000, 6000 * KB)],
}


@pytest.mark.parametrize("sizes", FRAGMENTS.values(), ids=FRAGMENTS)
def test_only_the_beginning_of_an_object_is_examined(tmp_path, sizes):
    store, seen = Store(), []

    def examine(first, _syntax):
        seen.append(bytes(first))

    body = data_set(padding=9000 * KB - len(data_set(padding=2)) + 2)
    options = {"spool_dir": tmp_path, "file_header": lambda *_: b"head", "examine": examine}
    with (
        serving(store.handler, ae=make_ae(maximum_pdu_size=0), **options) as server,
        Peer(server.server_address) as peer,
    ):
        peer.associate()
        peer.send(*store_of(body, sizes))
        assert peer.status() == 0
        peer.release()
    assert store.received == [body]
    assert [first for first in seen if not body.startswith(first)] == []


# --- between a command set and its data set ---


@contextmanager
def behind_a_large_object(store, tmp_path, **options):
    """A peer that has stored a large object, which the server writes behind."""
    kept = {"spool_dir": tmp_path, "file_header": lambda *_: b"head"}
    with (
        serving(store.handler, **kept, **options) as server,
        Peer(server.server_address, nagle=False) as peer,
    ):
        peer.associate()
        peer.send(*store_of(BODY, cut(SIZE, 64 * KB)))
        assert peer.status() == 0
        assert until(lambda: not list(tmp_path.iterdir()))
        store.received.clear()
        yield server, peer


@pytest.mark.parametrize("pause_s", [0, 0.05], ids=["at once", "later"])
def test_the_next_object_may_be_cut_otherwise(tmp_path, pause_s):
    store, small = Store(), data_set(padding=3 * KB)
    with behind_a_large_object(store, tmp_path) as (_, peer):
        for body, fragment in (
            (small, KB),
            (BODY, 100 * KB),
            (BODY, 30 * KB),
            (small, 4 * KB),
            (BODY, 100 * KB),
            (data_set(padding=100 * KB - len(data_set(padding=2)) + 2), 100 * KB),
        ):
            command, *data = store_of(body, cut(len(body), fragment))
            peer.send(command)
            time.sleep(pause_s)
            peer.send(*data)
            assert peer.status() == 0
            assert store.received.pop() == body
        peer.release()


@pytest.mark.parametrize("what", OUT_OF_TURN.values(), ids=OUT_OF_TURN)
@pytest.mark.parametrize("pause_s", [0, 0.05], ids=["at once", "later"])
def test_what_must_not_come_behind_a_command_set_is_aborted(tmp_path, what, pause_s):
    store = Store()
    with behind_a_large_object(store, tmp_path) as (_, peer):
        peer.send(store_of(BODY, cut(SIZE, 64 * KB))[0])
        time.sleep(pause_s)
        peer.send(what)
        kind, _ = peer.pdu()
        assert kind == ABORT
    assert store.received == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("how", ["abort", "close"])
def test_a_peer_that_leaves_behind_a_command_set_leaves_no_file(tmp_path, how):
    store = Store()
    with behind_a_large_object(store, tmp_path) as (server, peer):
        peer.send(store_of(BODY, cut(SIZE, 64 * KB))[0])
        if how == "abort":
            peer.send(pdu(ABORT, b"\0\0\0\0"))
        else:
            peer.sock.close()
        assert until(lambda: not server.active_associations, timeout=3)
    assert store.received == []
    assert list(tmp_path.iterdir()) == []


def test_a_request_that_comes_too_early_ends_the_association(tmp_path):
    """Without negotiation only one may be under way; nothing of a second one is kept."""

    def find(_event):
        while True:
            yield 0xFF00, Dataset.from_json({"0020000D": {"vr": "UI", "Value": ["1.2.3"]}})
            time.sleep(0.01)

    store = Store()
    handlers = [store.handler, (evt.EVT_C_FIND, find)]
    kept = {"spool_dir": tmp_path, "file_header": lambda *_: b"head"}
    with serving(*handlers, **kept) as server:
        with Peer(server.server_address) as peer:
            peer.associate()
            command, *data = store_of(BODY, cut(SIZE, 64 * KB))
            peer.send(command, *data)
            assert peer.status() == 0
            peer.send(message(5, find_rq(), data_set()), command)
            while (answer := peer.pdu())[0] == P_DATA:
                pass
            assert answer[0] == ABORT
        assert until(lambda: not server.active_associations)
    assert store.received == [BODY]
    assert list(tmp_path.iterdir()) == []


def test_a_peer_that_sends_nothing_behind_a_command_set_is_aborted(tmp_path):
    store = Store()
    with behind_a_large_object(store, tmp_path, ae=make_ae(network_timeout=0.5)) as (_, peer):
        peer.send(store_of(BODY, cut(SIZE, 64 * KB))[0])
        kind, _ = peer.pdu()
        assert kind == ABORT
    assert store.received == []
    assert list(tmp_path.iterdir()) == []


def test_an_object_that_there_is_no_memory_for_is_refused_and_the_next_is_taken():
    store, small = Store(), data_set(padding=600 * KB)
    large = data_set(padding=40_000 * KB)
    with serving(store.handler) as server, Peer(server.server_address) as peer:
        peer.associate()
        assert peer.echo() == 0
        pdus = store_of(large, cut(len(large), 128 * KB - 100))
        with memory_limited(20_000 * KB):
            for each in pdus:
                peer.send(each)
            assert peer.status() == 0xA700
            peer.send(*store_of(small, cut(len(small), 64 * KB)))
            assert peer.status() == 0
        peer.release()
    assert store.received == [small]


def test_an_object_is_refused_when_there_is_no_memory_for_its_first_byte(monkeypatch):
    monkeypatch.setattr("lfscp.upperlayer.receiving.sink._buffers", deque())
    store, small = Store(), data_set(padding=600 * KB)
    with serving(store.handler) as server, Peer(server.server_address) as peer:
        peer.associate()
        assert peer.echo() == 0
        pdus = store_of(small, cut(len(small), 64 * KB))
        with memory_limited(500 * KB):
            for each in pdus:
                peer.send(each)
            assert peer.status() == 0xA700
        peer.send(*pdus)
        assert peer.status() == 0
        peer.release()
    assert store.received == [small]


def test_an_object_goes_to_a_file_when_there_is_no_memory_for_it(monkeypatch, tmp_path):
    monkeypatch.setattr("lfscp.upperlayer.receiving.sink._buffers", deque())
    store, large = Store(), data_set(padding=3_500 * KB)
    with (
        serving(store.handler, spool_dir=tmp_path) as server,
        Peer(server.server_address) as peer,
    ):
        peer.associate()
        pdus = store_of(large, cut(len(large), 128 * KB - 100))
        for each in pdus[:3]:
            peer.send(each)
        assert until(lambda: received_bytes(server) > 200 * KB)
        with memory_limited(1500 * KB):
            for each in pdus[3:-1]:
                peer.send(each)
            assert until(lambda: list(tmp_path.iterdir()))
        peer.send(pdus[-1])
        assert peer.status() == 0
        peer.release()
    assert store.received == [large]
    assert list(tmp_path.iterdir()) == []


def received_bytes(server):
    """How much of the object on its way has come."""
    incoming = server.active_associations[0].receiver._incoming
    return 0 if incoming is None else incoming.received


def test_the_next_object_may_be_too_large_or_find_no_room_for_a_file(tmp_path):
    store, small = Store(), data_set(padding=3 * KB)
    limits = ReceiveLimits(max_object_bytes=SIZE)
    with behind_a_large_object(store, tmp_path, receive_limits=limits) as (_, peer):
        larger = data_set(padding=SIZE + KB)
        peer.send(*store_of(larger, cut(len(larger), 64 * KB)))
        assert peer.status() == 0xA700
        peer.send(*store_of(BODY, cut(SIZE, 64 * KB)))
        assert peer.status() == 0
        tmp_path.rename(f"{tmp_path}.gone")
        for _ in range(2):
            peer.send(*store_of(BODY, cut(SIZE, 64 * KB)))
            assert peer.status() == 0xA700
        peer.send(*store_of(small, [len(small)]))
        assert peer.status() == 0
        peer.release()
    assert store.received == [BODY, small]


def test_an_abort_between_fragments_ends_the_association_at_once():
    store = Store()
    with serving(store.handler) as server, Peer(server.server_address, nagle=False) as peer:
        peer.associate()
        peer.send(*store_of(BODY, cut(SIZE, 64 * KB))[:5])
        time.sleep(0.05)
        peer.send(pdu(ABORT, b"\0\0\0\0"))
        assert until(lambda: not server.active_associations, timeout=3)
    assert store.received == []
