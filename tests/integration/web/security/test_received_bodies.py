"""Bodies that a thread receives from the socket itself: whole, slow, broken off, left unread."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest
from starlette.requests import ClientDisconnect, Request

from lfscp.web.security import connection, received_bodies
from lfscp.web.security.connection_limits import ConnectionLimits
from lfscp.web.security.received_bodies import received_body
from tests.support.raw_http import WAIT_S, connect, dripping, refused, until
from tests.support.web_socket import listening

HEAD = b"POST /%s HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n"
GET = b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
LARGE = 40 << 20  # more than a thread receives at a time
THREADS = 40  # of the event loop, see anyio


class App:
    """An application: the length of a body; /refused answers at its first bytes."""

    def __init__(self) -> None:
        self.received = bytearray()
        self.threads: set[str] = set()
        self.gone = threading.Event()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        found, length = received_body(Request(scope, receive)), 0

        def feed(block: memoryview) -> None:
            nonlocal length
            self.threads.add(threading.current_thread().name)
            length += len(block)
            if length <= 1 << 20:
                self.received += block
            if scope["path"] == "/refused":
                raise ValueError

        try:
            if found is not None:
                await found.feed_to(feed)
        except ClientDisconnect:
            self.gone.set()
            return
        except ValueError:
            pass
        body = b"%d bytes" % length if scope["method"] == "POST" else b"hello"
        headers = [(b"content-length", b"%d" % len(body))]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})


@contextmanager
def serving(
    timeout_s: float = 30.0, min_rate: int = 1000
) -> Iterator[tuple[tuple[str, int], App, ConnectionLimits]]:
    """A server; its address, its application, its places."""
    places = ConnectionLimits(100, 100, timeout_s, min_rate)
    app = App()
    with listening(app, places) as server:
        yield server.address, app, places


@pytest.mark.parametrize("size", [1, 60_000, 3_000_000, LARGE])
def test_a_body_is_received_whole_and_the_next_request_is_another(size):
    with serving() as (address, _, _), connect(address, HEAD % (b"", size)) as sock:
        sock.sendall(b"G" * size)
        until(sock, b"%d bytes" % size)
        sock.sendall(HEAD % (b"", size) + b"G" * size + GET)
        answers = until(sock, b"")
    assert b"%d bytes" % size in answers
    assert answers.endswith(b"hello")


def test_the_bytes_come_in_their_order():
    content = b"".join(b"%07d," % number for number in range(100_000))
    with serving() as (address, app, _), connect(address, HEAD % (b"", len(content))) as sock:
        for at in range(0, len(content), 30_001):
            sock.sendall(content[at : at + 30_001])
        until(sock, b"%d bytes" % len(content))
    assert bytes(app.received) == content
    assert "lfscp-http" not in app.threads


def test_requests_sent_all_at_once_are_answered_one_after_another():
    sizes = (1, 200_000, 16_384, 2_000_000)
    requests = b"".join(HEAD % (b"", size) + b"G" * size for size in sizes)
    with serving() as (address, _, _), connect(address, requests + GET) as sock:
        answers = until(sock, b"")
    bodies = [each.partition(b"\r\n\r\n")[2] for each in answers.split(b"HTTP/1.1 200 ")[1:]]
    assert bodies == [b"%d bytes" % size for size in sizes] + [b"hello"]


def test_who_asks_before_a_body_is_told_to_send_it():
    head = (HEAD % (b"", 200_000))[:-2] + b"Expect: 100-continue\r\n\r\n"
    with serving() as (address, _, _), connect(address, head) as sock:
        until(sock, b"HTTP/1.1 100 Continue\r\n\r\n")
        sock.sendall(bytes(200_000))
        until(sock, b"200000 bytes")


def test_clients_that_send_slowly_keep_no_threads():
    with serving() as (address, app, _):
        slow = [connect(address, HEAD % (b"", 100) + b"x") for _ in range(THREADS + 5)]
        with connect(address, HEAD % (b"", LARGE)) as sock:
            sock.sendall(bytes(LARGE))
            until(sock, b"%d bytes" % LARGE)
        for each in slow:
            each.sendall(bytes(99))
            until(each, b"100 bytes")
            each.close()
        assert not app.gone.is_set()


def test_clients_that_spread_their_bytes_keep_no_threads(monkeypatch):
    monkeypatch.setattr(received_bodies, "_DRY_MS", 500)  # nothing else delays a byte so long
    with serving() as (address, app, _):
        slow = [connect(address, HEAD % (b"", LARGE) + b"x") for _ in range(THREADS + 5)]
        with dripping(slow), connect(address, HEAD % (b"", LARGE)) as sock:
            sock.sendall(bytes(LARGE))
            until(sock, b"%d bytes" % LARGE)
        assert not app.gone.is_set()
        for each in slow:
            each.close()


def test_a_client_that_spreads_its_bytes_is_ended():
    with serving(timeout_s=0.3, min_rate=20_000) as (address, app, places):
        before = refused("slow_request")
        with connect(address, HEAD % (b"", LARGE)) as sock, dripping([sock]):
            until(sock, b"")
        assert app.gone.wait(WAIT_S)
        assert refused("slow_request") == before + 1
        assert places.taken == 0


@pytest.mark.parametrize("sent", [0, 1, 100_000])
def test_a_client_that_falls_silent_is_ended(sent):
    with serving(timeout_s=0.3) as (address, app, places):
        before = refused("slow_request")
        with connect(address, HEAD % (b"", 1_000_000) + bytes(sent)) as sock:
            until(sock, b"")
        assert app.gone.wait(WAIT_S)
        assert refused("slow_request") == before + 1
        assert places.taken == 0


def test_a_body_at_more_than_the_slowest_pace_is_taken_whole():
    head = HEAD % (b"", 100_000)
    with serving(timeout_s=0.3) as (address, _, _), connect(address, head) as sock:
        for _ in range(25):  # four times as long as one may wait
            sock.sendall(b"x" * 4000)
            time.sleep(0.05)
        until(sock, b"100000 bytes")


def test_what_came_before_the_client_went_away_counts():
    with serving() as (address, app, places):
        with connect(address, HEAD % (b"", 1_000_000) + b"x" * 300_000):
            pass
        assert app.gone.wait(WAIT_S)
        assert len(app.received) == 300_000
        deadline = time.monotonic() + WAIT_S
        while places.taken and time.monotonic() < deadline:
            time.sleep(0.01)
        assert places.taken == 0


def test_a_body_that_is_refused_is_answered_and_its_rest_is_not_a_request():
    rest = GET * 20_000
    with serving() as (address, _, _), connect(address, HEAD % (b"refused", len(rest))) as sock:
        sock.sendall(rest)
        answers = until(sock, b" bytes")
        sock.sendall(GET)
        answers += until(sock, b"")
    assert answers.count(b"HTTP/1.1 200 ") == 2
    assert answers.endswith(b"hello")


def test_the_rest_of_a_refused_body_is_not_read_for_long(monkeypatch):
    monkeypatch.setattr(connection, "LINGER_S", 0.3)
    with serving() as (address, _, places), connect(address, HEAD % (b"refused", 1 << 40)) as sock:
        sock.sendall(bytes(1000))
        until(sock, b" bytes")
        with suppress(OSError):  # broken pipe or reset; else it goes on until the test is ended
            while True:
                sock.sendall(bytes(0x10000))
        assert places.taken == 0


def test_a_chunked_body_is_not_received_so():
    with serving() as (address, app, _):
        head = b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n"
        with connect(address, head + b"Connection: close\r\n\r\n5\r\nhello\r\n0\r\n\r\n") as sock:
            assert until(sock, b"").endswith(b"0 bytes")
        assert app.threads == set()
