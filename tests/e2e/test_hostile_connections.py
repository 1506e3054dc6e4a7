"""Peers that connect and do not associate: each costs little, and holds up nobody else."""

from __future__ import annotations

import logging
import struct
import threading
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from lfscp.observe import metrics
from lfscp.observe.log_budget import LogBudget
from lfscp.server import arrivals
from lfscp.server.address_limits import AddressLimits
from lfscp.server.unestablished import Unestablished
from tests.support.dicom_peer import (
    ABORT,
    ASSOCIATE_AC,
    ASSOCIATE_RJ,
    ASSOCIATE_RQ,
    Peer,
    associate_rq,
    echo,
    nothing_left_behind,
    until,
)
from tests.support.serving import make_ae, serving

HTTP = b"GET / HTTP/1.1\r\nHost: node\r\n\r\n"


def refused(reason):
    """How many connections were refused so far, for this reason."""
    return dict(metrics.REFUSED.samples(metrics.BOARD.sums()))[reason,]


def decision(server, **request):
    """What a peer that asks for an association gets: True, or why not (result, source, reason)."""
    with Peer(server.server_address) as peer:
        peer.send(associate_rq(**request))
        kind, body = peer.pdu()
        return True if kind == ASSOCIATE_AC else tuple(body[1:])


@contextmanager
def peers_that(send, server, count):
    """So many peers that send this, and then keep the connection open."""
    with ExitStack() as stack:
        peers = [stack.enter_context(Peer(server.server_address)) for _ in range(count)]
        for each in peers:
            each.send(send)
        yield peers


BEGINNINGS = {
    "nothing": b"",
    "half a head": associate_rq()[:3],
    "half a request": associate_rq()[:100],
    "the head of a large one": struct.pack(">BxI", ASSOCIATE_RQ, 900_000) + bytes(1000),
}


@pytest.mark.parametrize("sent", BEGINNINGS.values(), ids=BEGINNINGS)
def test_who_says_too_little_takes_no_thread(sent):
    """With one thread for all, each of them would hold it for the ACSE timeout."""
    with (
        nothing_left_behind(),
        serving(max_running=1) as server,
        peers_that(sent, server, 50) as silent,
    ):
        echo(server.server_address)
        assert server.pool.running == 1
        silent[7].send(associate_rq()[len(sent) :] if len(sent) <= 100 else b"")
        assert len(sent) > 100 or silent[7].pdu()[0] == ASSOCIATE_AC


def test_who_asks_for_nothing_in_time_is_closed_and_counted():
    before = refused("silent")
    with serving(ae=make_ae(acse_timeout=0.2)) as server, peers_that(b"", server, 5) as silent:
        assert [each.pdu() for each in silent] == [None] * 5
        assert until(lambda: refused("silent") == before + 5)  # a moment after they are closed


def test_of_too_many_the_one_that_stalls_longest_gives_its_place():
    """They are answered, do not close, and hold a thread for the time a peer has to close."""
    before = refused("displaced")
    with nothing_left_behind(), serving() as server:
        server._unestablished = Unestablished(most=3)
        with ExitStack() as stack:
            peers = []
            for _ in range(5):
                peers.append(stack.enter_context(Peer(server.server_address)))
                peers[-1].send(HTTP)
                assert peers[-1].pdu()[0] == ABORT
            assert [each.pdu() for each in peers[:2]] == [None] * 2
            assert until(lambda: len(server.active_associations) == 3)
            assert refused("displaced") == before + 2
            echo(server.server_address)


def test_of_one_address_fewer_stall_than_of_all():
    with nothing_left_behind(), serving() as server:
        server._unestablished = Unestablished(most=9, most_of_address=2)
        with ExitStack() as stack:
            peers = []
            for source in ("127.0.0.2", "127.0.0.2", "127.0.0.3", "127.0.0.2"):
                peers.append(stack.enter_context(Peer(server.server_address, source=source)))
                peers[-1].send(HTTP)
                assert peers[-1].pdu()[0] == ABORT
            assert peers[0].pdu() is None
            assert until(lambda: len(server.active_associations) == 3)


def test_those_that_are_established_give_no_place():
    with serving() as server, ExitStack() as stack:
        server._unestablished = Unestablished(most=1)
        peers = [stack.enter_context(Peer(server.server_address)) for _ in range(4)]
        for each in peers:
            each.associate()
        assert [each.echo() for each in peers] == [0] * 4
        for each in peers:
            each.release()


def test_those_that_are_established_or_rejected_hold_up_nobody_of_their_address(monkeypatch):
    monkeypatch.setattr(arrivals, "_BEGIN_S", 60.0)
    limits = AddressLimits(max_associations=20)
    with serving(limits=limits) as server, peers_that(associate_rq(), server, 40) as peers:
        kinds = [each.pdu()[0] for each in peers]
        assert (kinds.count(ASSOCIATE_AC), kinds.count(ASSOCIATE_RJ)) == (20, 20)


def test_a_large_request_has_the_acse_timeout_for_all_of_it():
    """A megabyte that keeps coming would have moved the end of its time on and on."""
    ended = threading.Event()
    with (
        nothing_left_behind(),
        serving(ae=make_ae(acse_timeout=1.0)) as server,
        Peer(server.server_address) as peer,
    ):

        def send():
            try:
                peer.send(struct.pack(">BxI", ASSOCIATE_RQ, 1 << 20))
                for _ in range(12):
                    peer.send(bytes(70_000))
                    if ended.wait(0.25):
                        return
            except OSError:
                return  # cut off, which is the point

        sender = threading.Thread(target=send)
        sender.start()
        try:
            assert peer.pdu() is None
            assert sender.is_alive(), "it was cut off before it had sent all"
        finally:
            ended.set()
            sender.join(10)


@pytest.fixture
def no_more_threads(monkeypatch):
    """Makes the system refuse new threads; undone by the context's end."""

    def refuse(_):
        raise RuntimeError("can't start new thread")

    @contextmanager
    def context():
        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", refuse)
            yield

    return context


def test_without_threads_peers_are_told_to_come_again(no_more_threads, caplog):
    before = refused("no_thread")
    with serving() as server, Peer(server.server_address) as running:
        running.associate()
        with caplog.at_level(logging.WARNING, "lfscp.pool"), no_more_threads():
            assert [decision(server) for _ in range(3)] == [(2, 3, 1)] * 3
            assert running.echo() == 0
        said = [each for each in caplog.records if each.name == "lfscp.pool"]
        assert len(said) == 1, "one line a minute"
        assert refused("no_thread") == before + 3
        assert decision(server) is True
        running.release()


def test_the_only_thread_serves_when_there_can_be_no_other(no_more_threads):
    with serving() as server, no_more_threads():
        for _ in range(3):
            assert decision(server) is True
            assert until(lambda: not server.active_associations)


def test_threads_that_nobody_needs_leave():
    with nothing_left_behind(), serving(max_idle_s=0.1) as server, ExitStack() as stack:
        peers = [stack.enter_context(Peer(server.server_address)) for _ in range(10)]
        for each in peers:
            each.associate()
        assert server.pool.running >= 10
        for each in peers:
            each.release()
        assert until(lambda: server.pool.running == 1 and server.pool.waiting == 0)
        echo(server.server_address)


def test_one_address_may_have_a_hundred_associations_by_default():
    assert serving_default_limit() == 100


def serving_default_limit():
    with serving() as server:
        return server.limits.max_associations


def test_associations_take_no_more_than_their_share_of_the_open_files(caplog):
    before = refused("too_many_associations")
    with serving(limits=AddressLimits()) as server:
        server._capacity.most_associations = 10
        with ExitStack() as stack:
            peers = [stack.enter_context(Peer(server.server_address)) for _ in range(9)]
            for each in peers:
                each.associate()
            assert [decision(server) for _ in range(2)] == [(2, 3, 2)] * 2
            assert refused("too_many_associations") == before + 2
            said = [each for each in caplog.messages if "LimitNOFILE" in each]
            assert len(said) == 1
            for each in peers:
                each.release()


def test_a_flood_makes_no_flood_of_lines(caplog):
    with serving() as server:
        server._refusals.budget = LogBudget(of_each=3, of_all=5)
        for _ in range(20):
            with Peer(server.server_address) as peer:
                peer.send(HTTP)
                assert peer.pdu()[0] == ABORT
        assert until(lambda: not server.active_associations)
    said = [each.getMessage() for each in caplog.records if each.name.startswith("lfscp")]
    assert len(said) == 4, said
    assert "17 in" in said[-1]
    assert "17 of 127.0.0.1" in said[-1]


def test_who_had_connected_when_the_server_stops_is_served():
    """As at a handover: the kernel has accepted it, and nobody else can."""
    with serving() as server, Peer(server.server_address) as peer:
        assert until(lambda: len(server._arrivals) == 1)
        server.shutdown()
        peer.associate()
        assert peer.echo() == 0
        peer.release()
        assert server.drain(10)


def test_silent_connections_do_not_hold_up_the_end():
    with nothing_left_behind(), serving() as server, peers_that(b"", server, 20) as silent:
        assert until(lambda: len(server._arrivals) == 20)
        server.shutdown()
        assert server.drain(10)
        assert [each.pdu() for each in silent] == [None] * 20


def threads_of(pids):
    return sum(len(list(Path(f"/proc/{pid}/task").iterdir())) for pid in pids)


def test_of_several_workers_none_is_taken_by_silent_connections(start_node):
    node = start_node(flags=["--workers", 2, "--max-running", 2])
    children = Path(f"/proc/{node.pid}/task/{node.pid}/children").read_text().split()
    before = threads_of(children)
    with ExitStack() as stack:
        for _ in range(40):
            stack.enter_context(Peer(("127.0.0.1", node.port)))
        for _ in range(20):
            with Peer(("127.0.0.1", node.port)) as peer:
                peer.associate(called="LFSCP")
                assert peer.echo() == 0
                peer.release()
        assert threads_of(children) < before + 20
    assert node.stop() == 0


def test_known_peers_behind_one_address_have_associations_of_their_own(start_node):
    configuration = (
        "[server]\nmax_associations_per_address = 1\n"
        '[peers.CT1]\nhost = "127.0.0.1"\nport = 11112\n'
        '[peers.MR1]\nhost = "127.0.0.1"\nport = 11112\n'
        '[peers.ELSEWHERE]\nhost = "127.0.0.7"\nport = 11112\n'
    )
    node = start_node(configuration=configuration, flags=["--workers", 1])

    def ask(stack, calling):
        peer = stack.enter_context(Peer(("127.0.0.1", node.port)))
        peer.send(associate_rq(called="LFSCP", calling=calling))
        kind, body = peer.pdu()
        return True if kind == ASSOCIATE_AC else (kind == ASSOCIATE_RJ, *body[1:])

    with ExitStack() as stack:
        assert ask(stack, "STRANGER") is True
        assert ask(stack, "STRANGER") == (True, 2, 3, 2)
        assert ask(stack, "ELSEWHERE") == (True, 2, 3, 2)
        assert ask(stack, "CT1") is True
        assert ask(stack, "MR1") is True
        assert ask(stack, "CT1") == (True, 2, 3, 2)
    (said,) = [each for each in node.lines if "server.max_associations_per_address" in each]
    assert "127.0.0.1" in said
