"""Connections that wait for a thread, with real sockets: bounded, timed, fair, none lost."""

import os
import socket
import threading
import time
from contextlib import ExitStack

import pytest

from lfscp.server import arrivals
from lfscp.server.arrivals import Arrivals
from lfscp.server.listener import Listener, ListenerClosedError, bind
from tests.support.dicom_peer import associate_rq, nothing_left_behind, until

PROXY = b"\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x0c"
PROXY_REST = bytes([10, 1, 2, 3, 10, 9, 9, 9, 1, 1, 2, 2])


class Waiting:
    """Arrivals with the listener they come to, and clients."""

    def __init__(self, stack, *, timeout_s=None, **options):
        self.refused = []
        self.stack = stack
        self.arrivals = Arrivals(
            timeout_s=lambda: timeout_s,
            refuse=lambda reason, address: self.refused.append((reason, address)),
            **options,
        )
        self.listener = Listener(
            bind(("127.0.0.1", 0)),
            beside=self.arrivals.fileno(),
            on_shortage=self.arrivals.make_room,
        )
        stack.callback(self.arrivals.close)
        stack.callback(self.listener.close)

    def client(self, data=b"", source="127.0.0.1"):
        sock = self.stack.enter_context(socket.socket())
        sock.bind((source, 0))
        sock.settimeout(10)
        sock.connect(self.listener.socket.getsockname())
        sock.sendall(data)
        return sock

    def next(self, timeout_s=10.0):
        arrival = self.arrivals.next(self.listener, timeout_s=timeout_s)
        if arrival is not None:
            self.stack.callback(arrival.connection.close)
        return arrival

    def settle(self):
        """Let in all that have connected; none of them may ask."""
        assert self.next(timeout_s=0.05) is None


@pytest.fixture
def waiting():
    with nothing_left_behind(), ExitStack() as stack:
        yield lambda **options: Waiting(stack, **options)


def is_closed(client):
    try:
        return client.recv(1) == b""
    except ConnectionResetError:
        return True


def test_a_request_is_handed_over_whole_and_unread(waiting):
    here = waiting()
    client = here.client(associate_rq()[:50])
    here.settle()
    assert len(here.arrivals) == 1
    client.sendall(associate_rq()[50:])
    arrival = here.next()
    assert arrival.connection.getblocking()
    assert arrival.address == client.getsockname()
    assert arrival.connection.recv(10_000) == associate_rq()
    assert len(here.arrivals) == 0


def test_who_asks_is_served_while_others_are_silent(waiting):
    here = waiting()
    for _ in range(20):
        here.client()
    here.settle()
    asking = here.client(associate_rq())
    assert here.next().address == asking.getsockname()
    assert len(here.arrivals) == 20


def test_of_an_address_that_has_too_many_the_oldest_gives_its_place(waiting):
    here = waiting(most_of_address=lambda: 3)
    others = here.client(source="127.0.0.2")
    silent = [here.client() for _ in range(5)]
    here.settle()
    assert here.refused == [("displaced", "127.0.0.1")] * 2
    assert all(is_closed(each) for each in silent[:2])
    for each in (others, *silent[2:]):
        each.sendall(associate_rq())
        assert here.next().address == each.getsockname()


def test_when_all_have_too_many_the_oldest_gives_its_place(waiting):
    here = waiting(most=3)
    silent = [here.client(source=f"127.0.0.{n}") for n in range(2, 7)]
    here.settle()
    assert here.refused == [("displaced", "127.0.0.2"), ("displaced", "127.0.0.3")]
    assert [is_closed(each) for each in silent[:2]] == [True, True]


def test_who_says_too_little_for_too_long_is_closed(waiting):
    here = waiting(timeout_s=0.1)
    silent, slow = here.client(), here.client(associate_rq()[:10])
    while len(here.refused) < 2:
        assert here.next(timeout_s=1.0) is None
    assert here.refused == [("silent", "127.0.0.1")] * 2
    assert is_closed(silent)
    assert is_closed(slow)


def test_who_has_asked_is_served_however_long_nobody_led(waiting):
    here = waiting(timeout_s=0.1)
    client = here.client()
    here.settle()
    client.sendall(associate_rq())
    time.sleep(0.2)  # nobody leads
    assert here.next().address == client.getsockname()
    assert here.refused == []


def test_those_that_ask_are_served_in_turn_by_address(waiting):
    here = waiting()
    for _ in range(6):
        here.client(associate_rq())
    here.client(associate_rq(), source="127.0.0.2")
    assert [here.next().source for _ in range(3)] == ["127.0.0.1", "127.0.0.2", "127.0.0.1"]


def test_of_one_address_only_so_many_begin_at_the_same_time(waiting, monkeypatch):
    monkeypatch.setattr(arrivals, "_BEGIN_S", 60.0)
    here = waiting()
    for _ in range(20):
        here.client(associate_rq())
    begun = [here.next() for _ in range(16)]
    assert here.next(timeout_s=0.05) is None
    here.client(associate_rq(), source="127.0.0.2")
    assert here.next().source == "127.0.0.2"
    begun[3].is_under_way = lambda: False  # established, or at its end
    assert here.next().source == "127.0.0.1"
    assert here.next(timeout_s=0.05) is None


def test_who_takes_long_to_begin_holds_up_nobody_of_its_address(waiting, monkeypatch):
    monkeypatch.setattr(arrivals, "_BEGIN_S", 0.01)
    here = waiting()
    for _ in range(20):
        here.client(associate_rq())
    assert all(here.next() for _ in range(20))


def test_those_that_ask_and_wait_are_bounded(waiting):
    here = waiting(most_of_address=lambda: 2)
    for _ in range(20):
        here.client(associate_rq())
    served = 0
    while here.next(timeout_s=0.1) is not None:
        served += 1
    assert here.refused == [("displaced", "127.0.0.1")] * (20 - served)
    assert served < 20


def test_who_leaves_without_a_word_takes_no_thread(waiting):
    here = waiting()
    here.client().close()
    client = here.client()
    here.settle()
    client.close()
    here.settle()
    assert here.refused == [("left", "127.0.0.1")] * 2


def test_who_leaves_is_handed_over_to_those_who_watch(waiting):
    here = waiting(hands_over_ends=lambda: True)
    here.client().close()
    assert here.next().connection.recv(1) == b""


def test_who_leaves_in_the_middle_of_a_request_is_handed_over(waiting):
    here = waiting()
    client = here.client(associate_rq()[:50])
    here.settle()
    client.close()
    assert here.next().connection.recv(1000) == associate_rq()[:50]


def test_it_is_counted_for_the_peer_that_the_proxy_names(waiting):
    here = waiting(has_proxy_header=True, most_of_address=lambda: 1)
    direct, named = here.client(), here.client(PROXY)
    here.settle()
    assert here.refused == [("displaced", "127.0.0.1")], "neither has said for whom it speaks"
    assert is_closed(direct)
    named.sendall(PROXY_REST)
    here.settle()
    another = here.client(PROXY + PROXY_REST)
    here.settle()
    assert here.refused[1:] == [("displaced", "10.1.2.3")]
    another.sendall(associate_rq())
    assert here.next().source == "10.1.2.3"


def test_without_descriptors_the_silent_give_theirs(waiting):
    here = waiting()
    for _ in range(16):
        here.client()
    here.settle()
    assert here.arrivals.make_room()
    assert len(here.arrivals) == 14
    for _ in range(14):
        here.arrivals.make_room()
    assert not here.arrivals.make_room()


def test_who_had_just_come_when_the_end_began_may_still_ask(waiting):
    here = waiting()
    silent, asking = here.client(), here.client()
    here.settle()
    here.listener.wake()
    with pytest.raises(ListenerClosedError):
        here.next()
    asking.sendall(associate_rq())
    last = here.arrivals.last()
    here.stack.callback(last.connection.close)
    assert last.address == asking.getsockname()
    assert here.arrivals.last() is None
    here.arrivals.close()
    assert is_closed(silent)


def test_a_copy_in_a_forked_process_keeps_nobody_awake(waiting, monkeypatch):
    """A closed socket that another process holds open must not come back as news."""
    here = waiting(timeout_s=0.1)
    client = here.client()
    here.settle()
    go_on, let_go = os.pipe()
    child = os.fork()
    if child == 0:
        os.read(go_on, 1)
        os._exit(0)
    try:
        while not here.refused:
            assert here.next(timeout_s=0.1) is None
        client.sendall(associate_rq())  # what was closed here lives on in the child
        waits = []
        accept = here.listener.accept
        monkeypatch.setattr(
            here.listener, "accept", lambda timeout_s: waits.append(1) or accept(timeout_s)
        )
        assert here.next(timeout_s=0.2) is None
        assert len(waits) < 10
    finally:
        os.write(let_go, b".")
        os.waitpid(child, 0)
        os.close(go_on)
        os.close(let_go)


def test_a_leader_that_waits_leaves_at_the_end(waiting):
    here = waiting()
    here.client()
    here.settle()
    ended = []

    def lead():
        with pytest.raises(ListenerClosedError):
            here.next(timeout_s=None)
        ended.append(True)

    leader = threading.Thread(target=lead)
    leader.start()
    here.listener.close()
    leader.join(10)
    assert until(lambda: ended == [True])
