"""The server's life: caps held with real connections, descriptors run out, stop and drain."""

import logging
import os
import resource
import subprocess
import sys
import threading
from contextlib import ExitStack
from pathlib import Path

import pytest
from pydicom import Dataset
from pynetdicom import AE, evt

from lfscp import LeaderFollowerServer
from lfscp.server import draining, leader_follower
from tests.support.dicom_peer import (
    ABORT,
    COMMAND,
    DATA,
    Peer,
    data_set,
    descriptors,
    echo,
    echo_rq,
    find_rq,
    message,
    nothing_left_behind,
    p_data,
    pdv,
    store_rq,
    until,
)
from tests.support.serving import make_ae, serving

ROOT = Path(__file__).parents[3]


class Gate:
    """A C-STORE handler that waits until it is let through, and counts who is inside."""

    def __init__(self):
        self.lock = threading.Lock()
        self.now = self.most = self.served = 0
        self.open = threading.Semaphore(0)

    def __call__(self, event):
        with self.lock:
            self.now += 1
            self.most = max(self.most, self.now)
        assert self.open.acquire(timeout=20)
        with self.lock:
            self.now -= 1
            self.served += 1
        return 0x0000


@pytest.mark.parametrize("max_waiting", [-1, 3, 0])
def test_never_more_are_served_than_the_cap_and_the_others_are_served_after(max_waiting):
    gate = Gate()
    bound = (evt.EVT_C_STORE, gate)
    with (
        nothing_left_behind(),
        serving(bound, max_running=5, max_waiting=max_waiting) as server,
    ):
        statuses = []

        def client(number):
            with Peer(server.server_address, timeout=20) as peer:
                peer.associate()
                peer.send(message(3, store_rq(number), data_set()))
                statuses.append(peer.status())
                peer.release()

        clients = [threading.Thread(target=client, args=(n,)) for n in range(12)]
        for each in clients:
            each.start()
        most = 1 if max_waiting == 0 else 5
        assert until(lambda: gate.now == most)
        assert len(server.active_associations) <= 5
        assert server.pool.state().running <= 5
        for _ in clients:
            gate.open.release()
        for each in clients:
            each.join(20)
        assert statuses == [0] * 12
        assert gate.most <= 5


def test_many_connections_at_once_are_all_served():
    with nothing_left_behind(), serving() as server:
        problems = []

        def client():
            try:
                for _ in range(5):
                    echo(server.server_address)
            except Exception as problem:  # noqa: BLE001 - told to the test's thread
                problems.append(problem)

        clients = [threading.Thread(target=client) for _ in range(30)]
        for each in clients:
            each.start()
        for each in clients:
            each.join(30)
        assert problems == []


def test_shutdown_wakes_the_leader_and_nobody_is_accepted_any_more():
    with nothing_left_behind():
        server = LeaderFollowerServer(make_ae(), ("127.0.0.1", 0))
        server.start()
        echo(server.server_address)
        server.shutdown()
        assert server.drain(5)
        with pytest.raises(ConnectionRefusedError):
            Peer(server.server_address)
        server.shutdown()  # again: harmless


def test_closing_its_sockets_ends_it_too():
    with nothing_left_behind():
        server = LeaderFollowerServer(make_ae(), ("127.0.0.1", 0))
        server.start()
        echo(server.server_address)
        server.server_close()
        assert server.drain(5)
        server.shutdown()


def test_a_server_that_never_started_can_be_shut_down():
    server = LeaderFollowerServer(make_ae(), ("127.0.0.1", 0))
    server.shutdown()


def test_the_same_port_can_be_served_again_at_once():
    address = ("127.0.0.1", 0)
    for _ in range(5):
        server = LeaderFollowerServer(make_ae(), address)
        server.start()
        address = server.server_address
        echo(address)
        server.shutdown()


def test_a_running_request_is_served_to_its_end_while_the_server_stops():
    gate = Gate()
    with serving((evt.EVT_C_STORE, gate)) as server, Peer(server.server_address) as peer:
        peer.associate()
        peer.send(message(3, store_rq(), data_set()))
        assert until(lambda: gate.now == 1)
        server.shutdown()
        assert not server.drain(0.2), "it is still being served"
        gate.open.release()
        assert peer.status() == 0
        peer.release()
        assert server.drain(5)


def test_an_idle_association_is_aborted_while_draining():
    with serving() as server:
        with Peer(server.server_address) as peer:
            peer.associate()
            assert peer.echo() == 0
            server.shutdown()
            draining = threading.Thread(target=server.drain, args=(10,))
            draining.start()
            assert peer.pdu()[0] == ABORT
        draining.join(5)
        assert not server.active_associations


@pytest.fixture
def looks_often(monkeypatch):
    """A server that drains looks ten times a second who may be aborted, not once."""
    monkeypatch.setattr(leader_follower, "IDLE_BEFORE_ABORT_S", 0.1)


HALF = {
    "object": message(3, store_rq()) + p_data(pdv(3, DATA, b"\x10\0\x10\0")),
    "data set of a query": message(5, find_rq()) + p_data(pdv(5, DATA, b"\x08\0\x52\0")),
    "command set": p_data(pdv(1, COMMAND, b"\0\0")),
    "fragment": message(3, store_rq()) + p_data(pdv(3, DATA, bytes(1000)))[:500],
}


@pytest.mark.usefixtures("looks_often")
@pytest.mark.parametrize("half", HALF)
@pytest.mark.parametrize("watched", [False, True], ids=["straight", "watched"])
def test_whoever_is_silent_in_mid_message_is_aborted_while_draining(
    half, watched, monkeypatch, tmp_path
):
    monkeypatch.setattr(draining, "SILENT_BEFORE_ABORT_S", 0.1)
    handlers = [(evt.EVT_PDU_RECV, lambda event: None)] if watched else []
    with serving(*handlers, spool_dir=tmp_path, file_header=lambda *_: b"head") as server:
        with Peer(server.server_address) as peer:
            peer.associate()
            (association,) = server.active_associations
            before = association.reads
            peer.send(HALF[half])
            assert until(lambda: association.reads > before)
            server.shutdown()
            drained = threading.Thread(target=server.drain, args=(60,))
            drained.start()
            assert peer.pdu()[0] == ABORT
        drained.join(10)
        assert not drained.is_alive()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("looks_often")
def test_whoever_goes_on_sending_is_served_while_draining(monkeypatch):
    """Slower than a fragment in the time that a silent one gets."""
    monkeypatch.setattr(draining, "SILENT_BEFORE_ABORT_S", 1.5)
    body = data_set(padding=1000)
    with serving((evt.EVT_C_STORE, lambda event: 0x0000)) as server:
        with Peer(server.server_address) as peer:
            peer.associate()
            object_ = message(3, store_rq(), body)
            peer.send(object_[:-8])
            server.shutdown()
            drained = threading.Thread(target=server.drain, args=(60,))
            drained.start()
            for at in range(8):
                drained.join(0.25)
                peer.send(object_[at - 8 : at - 7 or None])
            assert peer.status() == 0x0000
            peer.release()
        drained.join(10)
        assert not drained.is_alive()


@pytest.mark.parametrize(("timeout_s", "go_on_s"), [(30, 26), (10, 8), (5, 4), (1, 0.8), (0, 0)])
def test_a_part_of_the_drain_is_for_those_that_must_be_aborted(timeout_s, go_on_s):
    assert draining.time_to_go_on_s(timeout_s) == go_on_s


def test_peers_that_take_no_answer_are_cut_off_together():
    """Each is blocked in a send; none of them is waited for."""
    large = Dataset.from_json({"00204000": {"vr": "LT", "Value": ["x" * 9000]}})

    def find(_event):
        while True:
            yield 0xFF00, large

    with serving((evt.EVT_C_FIND, find)) as server:
        peers = [Peer(server.server_address, receive_buffer=4096) for _ in range(5)]
        for peer in peers:
            peer.associate()
            peer.send(message(5, find_rq(), b"\x08\0\x52\0\x06\0\0\0STUDY "))
        assert until(lambda: all(map(is_blocked, server.active_associations)))
        server.shutdown()
        assert server.abort_all() == 5
        assert server.drain(10)
        for peer in peers:
            peer.sock.close()


@pytest.mark.usefixtures("looks_often")
@pytest.mark.parametrize("reads", [False, True], ids=["takes nothing", "takes it slowly"])
def test_who_takes_nothing_is_aborted_while_draining_and_who_is_slow_is_not(monkeypatch, reads):
    monkeypatch.setattr(draining, "SILENT_BEFORE_ABORT_S", 1.5)
    large = Dataset.from_json({"00204000": {"vr": "LT", "Value": ["x" * 9000]}})
    size = 100_000

    def find(_event):
        for _ in range(800):
            yield 0xFF00, large

    with (
        serving((evt.EVT_C_FIND, find)) as server,
        Peer(server.server_address, receive_buffer=4096) as peer,
    ):
        peer.associate()
        peer.send(message(5, find_rq(), b"\x08\0\x52\0\x06\0\0\0STUDY "))
        (association,) = server.active_associations
        assert until(lambda: association.takes_nothing)
        server.shutdown()
        drained = []
        draining_ = threading.Thread(target=lambda: drained.append(server.drain(60)))
        draining_.start()
        for _ in range(10 if reads else 0):
            draining_.join(0.25)
            left = size
            while left > 0:
                left -= len(peer.sock.recv(left))
        if reads:
            assert association.end_reason is None
        else:
            draining_.join(30)
            assert drained == [True]
            assert association.end_reason == "not reading while the server was stopping"
        peer.sock.close()
        draining_.join(30)


def is_blocked(association):
    """Whether another thread holds the right to send, for a while."""
    with association.dul.sending(0.2) as may_send:
        return not may_send


def test_a_handler_that_never_returns_holds_up_the_drain_no_longer_than_its_deadline():
    gate = Gate()
    with serving((evt.EVT_C_STORE, gate)) as server, Peer(server.server_address) as peer:
        peer.associate()
        peer.send(message(3, store_rq(), data_set()))
        assert until(lambda: gate.now == 1)
        server.shutdown()
        assert not server.drain(0.3)
        gate.open.release()


def test_an_ae_without_contexts_is_refused():
    with pytest.raises(ValueError, match="presentation contexts"):
        LeaderFollowerServer(AE(), ("127.0.0.1", 0))


@pytest.mark.parametrize("caps", [{"max_running": -1}, {"max_waiting": -2}])
def test_a_cap_out_of_range_is_refused(caps):
    with pytest.raises(ValueError, match=next(iter(caps))):
        LeaderFollowerServer(make_ae(), ("127.0.0.1", 0), **caps)


def test_starting_twice_is_refused():
    with serving() as server, pytest.raises(RuntimeError, match="before"):
        server.start()


def test_a_port_in_use_is_said_and_leaves_nothing():
    with serving() as server, nothing_left_behind():
        other = LeaderFollowerServer(make_ae(), server.server_address)
        with pytest.raises(OSError, match="in use"):
            other.start()


def test_it_begins_with_the_threads_asked_for():
    with serving(threads=4) as server:
        assert until(lambda: server.pool.waiting == 3)
        assert server.pool.leader is not None
        echo(server.server_address)


def test_handlers_are_bound_and_unbound_while_it_runs():
    with serving() as server, Peer(server.server_address) as peer:
        noted = []

        def note(event):
            noted.append(event.event.name)

        peer.associate()
        assert peer.echo() == 0
        server.bind(evt.EVT_DIMSE_RECV, note)
        assert peer.echo() == 0
        assert noted == ["EVT_DIMSE_RECV"]
        assert evt.EVT_DIMSE_RECV in server.get_events()
        assert server.get_handlers(evt.EVT_DIMSE_RECV) == [(note, None)]
        server.unbind(evt.EVT_DIMSE_RECV, note)
        assert peer.echo() == 0
        assert noted == ["EVT_DIMSE_RECV"]
        assert server.get_handlers(evt.EVT_DIMSE_RECV) == []
        peer.release()


def test_an_association_that_breaks_is_said_once_in_the_log(caplog):
    with serving() as server:
        with caplog.at_level(logging.WARNING, "lfscp"), Peer(server.server_address) as peer:
            peer.associate()
            peer.send(message(99, echo_rq()))
            assert peer.pdu()[0] == ABORT
        assert until(lambda: not server.active_associations)
    said = [each.getMessage() for each in caplog.records if each.name.startswith("lfscp")]
    assert len(said) == 1
    assert "context 99 was not accepted" in said[0]


def test_without_file_descriptors_it_waits_and_serves_when_there_are_some_again():
    """In a process of its own, with a limit of the kernel's."""
    done = subprocess.run(
        [sys.executable, __file__],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stdout.split() == ["served", "full", "waits", "served"], done.stderr


class _Said(logging.Handler, threading.Event):
    """Set when the listener has said that it cannot accept."""

    def __init__(self):
        logging.Handler.__init__(self)
        threading.Event.__init__(self)

    def emit(self, record):
        if "Cannot accept connections" in record.getMessage():
            self.set()


def _without_descriptors():
    said = _Said()
    logging.getLogger("lfscp").addHandler(said)
    with serving() as server:
        before = descriptors()
        echo(server.server_address)
        assert until(lambda: descriptors() == before)
        print("served")  # noqa: T201 - what the test reads
        held = Peer(server.server_address)
        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        in_use = max(int(each.name) for each in Path("/proc/self/fd").iterdir())
        resource.setrlimit(resource.RLIMIT_NOFILE, (in_use + 8, hard))
        held.associate()
        pipes = []
        try:
            while True:
                pipes.append(os.dup(0))
        except OSError:
            print("full")  # noqa: T201 - the same
        # The connection is made by the kernel; the server has no descriptor to accept it with.
        os.close(pipes.pop())
        waiting = Peer(server.server_address, timeout=20)
        assert said.wait(20)
        print("waits")  # noqa: T201 - the same
        for each in pipes:
            os.close(each)
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        waiting.associate()
        assert waiting.echo() == 0
        print("served")  # noqa: T201 - the same
        held.sock.close()
        waiting.release()


if __name__ == "__main__":
    _without_descriptors()


def test_with_starts_the_server_and_ends_it_with_its_associations():
    with nothing_left_behind(), ExitStack() as peers:
        with LeaderFollowerServer(make_ae(), ("127.0.0.1", 0)) as server:
            peer = peers.enter_context(Peer(server.server_address))
            peer.associate()
            peer.send(message(1, echo_rq()))
            assert peer.status() == 0x0000
        assert peer.pdu()[0] == ABORT  # it asked for nothing, so `close` did not wait for it
        assert not server.active_associations


def test_serve_forever_starts_the_server_and_returns_after_shutdown():
    server = LeaderFollowerServer(make_ae(), ("127.0.0.1", 0))
    with nothing_left_behind():
        waiting = threading.Thread(target=server.serve_forever)
        waiting.start()
        assert until(lambda: server.pool.leader is not None)
        with Peer(server.server_address) as peer:
            peer.associate()
            peer.release()
        assert waiting.is_alive()
        server.shutdown()
        waiting.join(20)
        assert not waiting.is_alive()
        assert server.drain(10)


def test_serve_forever_goes_on_with_a_server_that_was_started():
    server = LeaderFollowerServer(make_ae(), ("127.0.0.1", 0))
    with nothing_left_behind(), server:
        server.server_close()  # as when its sockets go to another process
        server.serve_forever()


def test_close_aborts_what_does_not_end_in_time():
    gate, ended = Gate(), []
    server = LeaderFollowerServer(
        make_ae(), ("127.0.0.1", 0), evt_handlers=[(evt.EVT_C_STORE, gate)], on_end=ended.append
    )
    with nothing_left_behind(), server, Peer(server.server_address, timeout=20) as peer:
        peer.associate()
        peer.send(message(3, store_rq(1), data_set()))
        assert until(lambda: gate.now == 1)
        closing = threading.Thread(target=server.close, args=(0.1,))
        closing.start()
        assert peer.pdu()[0] == ABORT
        gate.open.release()
        closing.join(20)
        assert not closing.is_alive()
        assert not server.active_associations
        assert [each.end_reason for each in ended] == ["aborted by the server"]
