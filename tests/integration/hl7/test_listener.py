"""MLLP over real sockets: odd chunks, many messages, hostile peers."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from lfscp.hl7.listener import HL7Listener
from lfscp.hl7.mllp import Limits
from lfscp.server.listener import bind
from tests.support.dicom_peer import until
from tests.support.hl7_messages import MLLPClient

Start = Callable[..., int]


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts a listener that answers with what it got; gives its port."""
    running: list[HL7Listener] = []

    def begin(
        take: Callable[[bytes, str], bytes] = lambda data, _: b"got " + data,
        networks: tuple[str, ...] = (),
        **limits: Any,
    ) -> int:
        sock = bind(("127.0.0.1", 0))
        running.append(HL7Listener(sock, take, networks, Limits(**limits)))
        running[-1].start()
        return int(sock.getsockname()[1])

    yield begin
    for each in running:
        each.stop()


@pytest.mark.parametrize("chunk", [1, 2, 7, 0])
def test_messages_come_in_pieces_and_several_on_a_connection(start, chunk):
    with MLLPClient(start()) as client:
        for text in (b"one", b"two\rlines\r", b""):
            assert client.ask(text, chunk) == f"got {text.decode()}"


def test_messages_that_come_together_are_answered_in_their_order(start):
    with MLLPClient(start()) as client:
        client.socket.sendall(b"\r\n\x0bone\x1c\r\n\n\x0btwo\x1c\x0bthree\x1c\r")
        assert [client.answer() for _ in range(3)] == ["got one", "got two", "got three"]


def test_a_peer_that_has_said_all_still_hears_the_answer(start):
    with MLLPClient(start()) as client:
        client.socket.sendall(b"\x0bone\x1c\r")
        client.socket.shutdown(socket.SHUT_WR)
        assert client.answer() == "got one"
        assert client.answer() == ""


@pytest.mark.parametrize(
    ("sent", "limits", "reason"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", {}, "bytes outside of an MLLP frame"),
        (b"\x0b" + b"x" * 2000, {"max_bytes": 1000}, "a message is too long"),
        (b"\x0bhalf", {"message_s": 0.05}, "a message did not end in time"),
        (b"\r\n", {"idle_s": 0.05}, "nothing was sent for a long time"),
    ],
)
def test_a_peer_that_does_not_keep_to_it_is_ended_with_one_line(start, capfd, sent, limits, reason):
    with MLLPClient(start(**limits)) as client:
        client.socket.sendall(sent)
        assert client.answer() == ""
    lines = capfd.readouterr().err.splitlines()
    assert [each for each in lines if reason in each] == lines
    assert len(lines) == 1


def test_a_connection_that_ends_within_a_message_is_no_message(start, capfd):
    taken: list[bytes] = []
    port = start(lambda data, _: taken.append(data) or b"")
    with MLLPClient(port) as client:
        client.socket.sendall(b"\x0bhalf")
        client.socket.shutdown(socket.SHUT_WR)
        assert client.answer() == ""
    assert taken == []
    assert "ended within a message" in capfd.readouterr().err


def test_a_peer_that_leaves_the_end_of_its_answer_unread_is_no_warning(start, capfd):
    """Its system then sends a reset instead of an end."""
    with MLLPClient(start()) as client:
        client.socket.sendall(b"\x0bone\x1c\r")
        assert client.socket.recv(1) == b"\x0b"
    assert until(lambda: not any("hl7-peer" in each.name for each in threading.enumerate()))
    assert capfd.readouterr().err == ""


def test_an_answer_that_nobody_takes_ends_the_connection(start, capfd):
    with MLLPClient(start(lambda *_: b"x" * (64 << 20), message_s=0.2)) as client:
        client.socket.sendall(b"\x0bone\x1c\r")
        ended = threading.Event()
        while not ended.is_set():
            try:
                client.socket.sendall(b"\x0bone\x1c\r" * 1000)
            except OSError:
                ended.set()
    assert "the answer was not taken in time" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("networks", "may"), [((), True), (("127.0.0.0/8",), True), (("10.0.0.0/8", "::1/128"), False)]
)
def test_only_peers_of_the_named_networks_may_send(start, networks, may):
    with MLLPClient(start(networks=networks)) as client:
        try:
            assert bool(client.ask(b"one")) is may
        except ConnectionError:
            assert not may


def test_of_too_many_connections_the_one_that_was_silent_the_longest_ends(start):
    port = start(connections=2)
    with MLLPClient(port) as first, MLLPClient(port) as second:
        assert first.ask(b"1")
        assert second.ask(b"2")
        assert first.ask(b"3")
        with MLLPClient(port) as third:
            assert third.ask(b"4")
            assert second.answer() == ""
            assert first.ask(b"5")


def test_a_message_that_is_being_taken_is_answered_before_the_end():
    begun, may_go_on = threading.Event(), threading.Event()

    def take(data: bytes, _: str) -> bytes:
        begun.set()
        assert may_go_on.wait(30)
        return b"late"

    sock = bind(("127.0.0.1", 0))
    port = sock.getsockname()[1]
    listener = HL7Listener(sock, take)
    listener.start()
    with MLLPClient(port) as client, MLLPClient(port) as idle:
        client.socket.sendall(b"\x0bone\x1c\r")
        assert begun.wait(30)
        ending = threading.Thread(target=listener.stop)
        ending.start()
        assert idle.answer() == ""
        may_go_on.set()
        assert client.answer() == "late"
        ending.join(30)
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), 5)
