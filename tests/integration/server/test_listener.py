"""The listening socket: what passes by itself costs no leader, and a wait can be ended."""

import errno
import socket
import threading

import pytest

from lfscp.server.listener import Listener, ListenerClosedError, bind
from tests.support.dicom_peer import nothing_left_behind, until


@pytest.fixture
def listener():
    listener = Listener(bind(("127.0.0.1", 0)))
    yield listener
    listener.close()


def client_of(listener):
    return socket.create_connection(listener.socket.getsockname())


def test_accept_gives_a_blocking_connection_and_the_peers_address(listener):
    with client_of(listener) as client:
        connection, address = listener.accept()
        with connection:
            assert address == client.getsockname()
            assert connection.getblocking()
            client.sendall(b"x")
            assert connection.recv(1) == b"x"


def test_wake_ends_a_wait_and_every_later_one():
    listener = Listener(bind(("127.0.0.1", 0)))
    ended = []

    def wait():
        with pytest.raises(ListenerClosedError):
            listener.accept()
        ended.append(True)

    leader = threading.Thread(target=wait)
    leader.start()
    listener.wake()
    leader.join(5)
    assert ended == [True]
    with pytest.raises(ListenerClosedError):
        listener.accept()
    listener.close()


def test_the_port_is_free_when_close_returns_although_a_leader_waited():
    with nothing_left_behind():
        for _ in range(20):
            listener = Listener(bind(("127.0.0.1", 0)))
            address = listener.socket.getsockname()

            def lead(listener=listener):
                try:
                    listener.accept()
                except ListenerClosedError:
                    return

            leader = threading.Thread(target=lead)
            leader.start()
            listener.close()
            bind(address).close()
            leader.join(5)


def test_closing_twice_and_waking_afterwards_are_harmless():
    listener = Listener(bind(("127.0.0.1", 0)))
    listener.close()
    listener.close()
    listener.wake()


class Failing:
    """A socket whose accept fails as often as told, and then does not."""

    def __init__(self, sock, problems):
        self.sock, self.problems = sock, problems

    def accept(self):
        if self.problems:
            number = self.problems.pop()
            raise OSError(number, "on purpose")
        return self.sock.accept()

    def close(self):
        self.sock.close()


@pytest.mark.parametrize(
    "problem", [errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ECONNABORTED, errno.EPROTO]
)
def test_what_passes_by_itself_is_waited_for(listener, problem):
    real = listener.socket
    listener.socket = Failing(real, [problem, problem])
    with socket.create_connection(real.getsockname()):
        connection, _ = listener.accept()
        connection.close()
    assert listener.socket.problems == []
    listener.socket = real


def test_a_listener_out_of_descriptors_can_be_closed(listener):
    real = listener.socket
    listener.socket = Failing(real, [errno.EMFILE] * 1000)
    with socket.create_connection(real.getsockname()):
        ended = []

        def lead():
            try:
                listener.accept()
            except ListenerClosedError:
                ended.append(True)

        leader = threading.Thread(target=lead)
        leader.start()
        assert until(lambda: len(listener.socket.problems) < 1000)
        listener.wake()
        leader.join(5)
        assert ended == [True]
    listener.socket = real


def test_an_address_in_use_is_said(listener):
    with pytest.raises(OSError, match="in use"):
        bind(listener.socket.getsockname())


def test_ipv6_is_listened_on():
    with bind(("::1", 0)) as sock:
        assert sock.family == socket.AF_INET6
