"""The HTTP server's connections: what takes too long or too much is ended, the others go on."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest

from lfscp.observe.open_files import most_open_files
from lfscp.web.security import connection as http_connection
from lfscp.web.security import connection_limits
from lfscp.web.security.connection import MAX_HEAD_BYTES
from lfscp.web.security.connection_limits import ConnectionLimits, limits_of
from lfscp.web.security.forwarded import ReverseProxies
from tests.support.raw_http import WAIT_S, connect, refused, rest, until
from tests.support.web_socket import listening

GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n"
CHUNKED = b"POST /%s HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
LONG = 64 << 20  # of an answer: more than all buffers on the way take


class App:
    """An application: "hello"; for POST / the length of its body; /long is long, /late late."""

    def __init__(self) -> None:
        self.served = 0
        self.begun, self.gone = threading.Event(), threading.Event()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.served += 1
        body, length = b"hello", 0
        if scope["method"] == "POST" and scope["path"] == "/":
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    self.gone.set()
                    return
                length += len(message["body"])
                if not message["more_body"]:
                    break
            body = b"%d" % length
        if scope["path"] == "/never":
            self.begun.set()
            await asyncio.sleep(WAIT_S)
        if scope["path"] == "/late":
            self.begun.set()
            await asyncio.sleep(0.3)
        size = LONG if scope["path"] == "/long" else len(body)
        headers = [(b"content-length", b"%d" % size)]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        piece = bytes(1 << 20) if size == LONG else body
        for _ in range(size // len(piece)):
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body", "body": b""})
        if size == LONG or scope["path"] == "/late":
            self.gone.set()


@contextmanager
def serving(**limits: Any) -> Iterator[tuple[tuple[str, int], App, ConnectionLimits]]:
    """A server with such limits; its address, its application, its places."""
    wanted = {"most": 50, "most_of_address": 20, "timeout_s": 30.0, "min_rate": 1000, **limits}
    places = ConnectionLimits(**wanted)
    app = App()
    with listening(app, places) as server:
        yield server.address, app, places


def ask(address: tuple[str, int], path: str = "/") -> bytes:
    request = f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    with connect(address, request.encode()) as sock:
        return rest(sock)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", ""),
        (GET[:-10], "slow_request"),
        (POST, "slow_request"),
        (POST + b"x" * 1000, "slow_request"),
        (CHUNKED % b"" + b"10\r\n", "slow_request"),
        (GET, ""),
        (GET + GET[:-2], "slow_request"),
    ],
    ids=[
        "nothing",
        "half a head",
        "no body",
        "half a body",
        "half a chunk",
        "idle",
        "half the 2nd",
    ],
)
def test_a_connection_that_keeps_one_waiting_is_ended(content, reason):
    with serving(timeout_s=0.3) as (address, _, places):
        before = refused(reason)
        with connect(address, content) as sock:
            rest(sock)
        assert places.taken == 0
        assert refused(reason) == before + bool(reason)
        assert b"hello" in ask(address)


def test_bytes_that_drip_do_not_lengthen_the_wait():
    with serving(timeout_s=0.5) as (address, _, places), connect(address, GET[:-4]) as sock:
        ended = False
        for _ in range(200):
            try:
                sock.sendall(b"x")
                time.sleep(0.05)
            except OSError:
                ended = True
                break
        assert ended
        assert places.taken == 0


def test_a_body_at_more_than_the_slowest_pace_is_taken_whole():
    with serving(timeout_s=0.3, min_rate=1000) as (address, _, _), connect(address, POST) as sock:
        for _ in range(25):  # four times as long as one may wait
            sock.sendall(b"x" * 4000)
            time.sleep(0.05)
        until(sock, b"\r\n\r\n100000")


def test_a_client_that_does_not_read_is_ended():
    with serving(timeout_s=0.3) as (address, app, places):
        before = refused("slow_reader")
        with connect(address, GET.replace(b"/", b"/long", 1)):
            assert app.gone.wait(WAIT_S)  # else the application waits for ever
            assert refused("slow_reader") == before + 1
        assert places.taken == 0


def test_a_client_that_reads_slowly_has_it_all():
    with serving(timeout_s=0.3, min_rate=1000) as (address, _, _):
        sock = socket.socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        sock.settimeout(WAIT_S)
        sock.connect(address)
        with sock:
            sock.sendall(b"GET /long HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            found = 0
            while piece := sock.recv(1 << 20):
                found += len(piece)
                time.sleep(0.01)
        assert found > LONG


def test_what_one_address_has_too_much_of_is_refused_with_an_answer():
    with serving(most_of_address=3) as (address, app, places):
        held = [connect(address, POST) for _ in range(3)]
        while app.served < 3:
            time.sleep(0.01)
        before = refused("connections_of_address")
        answer = ask(address)

        assert answer.startswith(b"HTTP/1.1 503 ")
        assert b"Retry-After: " in answer
        assert refused("connections_of_address") == before + 1
        assert places.taken == 3
        held.pop().close()
        while places.taken == 3:
            time.sleep(0.01)
        assert b"hello" in ask(address)
        for each in held:
            each.close()


@pytest.mark.parametrize("limits", [{"most_of_address": 3}, {"most": 3}], ids=["address", "all"])
def test_an_idle_connection_makes_room_for_a_new_one(limits, monkeypatch):
    monkeypatch.setattr(connection_limits, "GRACE_S", 0.2)
    with serving(**limits) as (address, _, places):
        held = [connect(address, GET[:-3]) for _ in range(3)]
        time.sleep(0.3)  # what is younger may be about to ask
        assert b"hello" in ask(address)
        assert rest(held[0]) == b"", "the one that waited the longest"
        assert places.taken == 2
        for each in held:
            each.close()


def test_each_connection_of_a_trusted_proxy_counts_for_itself():
    trusted = ["127.0.0.0/8"]
    with serving(most_of_address=2, proxies=ReverseProxies(trusted)) as (address, app, _):
        held = [connect(address, POST) for _ in range(5)]
        while app.served < 5:
            time.sleep(0.01)
        assert b"hello" in ask(address)
        for each in held:
            each.close()


def test_what_is_sent_does_not_wait_for_the_client_s_acknowledgement():
    with serving() as (address, _, places), connect(address, GET) as sock:
        until(sock, b"hello")
        [connection] = places._places
        served = connection.transport.get_extra_info("socket")
        assert served.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def test_a_body_of_known_length_ends_where_it_says():
    head = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n"
    sizes = (1, MAX_HEAD_BYTES - 60, MAX_HEAD_BYTES, 100_000, 3_000_000)
    requests = b"".join(head % size + b"G" * size for size in sizes)
    with serving() as (address, _, _), connect(address, requests) as sock:
        sock.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        answers = rest(sock)
    bodies = [each.partition(b"\r\n\r\n")[2] for each in answers.split(b"HTTP/1.1 200 ")[1:]]
    assert bodies == [b"%d" % size for size in sizes] + [b"hello"]


def test_a_long_head_behind_a_long_body_is_refused_too():
    body = bytes(200_000)
    post = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 200000\r\n\r\n"
    long_head = b"GET / HTTP/1.1\r\nHost: x\r\nA: " + b"x" * (2 * MAX_HEAD_BYTES) + b"\r\n\r\n"
    with serving() as (address, app, _), connect(address, post + body + long_head) as sock:
        answers = rest(sock)
        assert answers.index(b"200000") < answers.index(b"HTTP/1.1 400 ")
        assert app.served == 1


def test_one_address_has_at_most_half_of_the_places_unless_their_number_is_set(monkeypatch):
    monkeypatch.setattr(connection_limits, "most_open_files", lambda: 1024)
    assert limits_of(0, 256) == (256, 128)
    assert limits_of(300, 256) == (300, 256)
    assert limits_of(0, 100) == (256, 100)


def test_without_a_number_a_quarter_of_the_open_files_is_the_limit():
    assert ConnectionLimits(0, 0, 1.0, 0).most == most_open_files() // 4


@pytest.mark.parametrize("before", [b"", GET], ids=["alone", "behind another"])
@pytest.mark.parametrize(
    "head",
    [
        b"GET /" + b"x" * (MAX_HEAD_BYTES * 2) + b" HTTP/1.1\r\nHost: x\r\n\r\n",
        GET[:-2] + b"A: " + b"x" * (MAX_HEAD_BYTES * 2) + b"\r\n\r\n",
        GET[:-2] + b"a:\r\n" * 10_000 + b"\r\n",
    ],
    ids=["query", "header", "headers"],
)
def test_a_head_of_any_length_is_not_read_beyond_the_limit(head, before):
    with serving() as (address, app, _):
        with connect(address, before + head) as sock:
            answer = rest(sock)
        assert answer.startswith(b"HTTP/1.1 200" if before else b"HTTP/1.1 400")
        assert answer.count(b"HTTP/1.1 400") <= 1
        assert app.served == bool(before)


def test_requests_sent_all_at_once_are_answered_one_after_another():
    with serving() as (address, app, _), connect(address, GET * 3000) as sock:
        found = b""
        while found.count(b"hello") < 3000:
            found += sock.recv(1 << 20)
        assert app.served == 3000


def test_a_chunked_body_without_end_is_not_read_for_long_once_it_is_answered(monkeypatch):
    monkeypatch.setattr(http_connection, "LINGER_S", 0.3)
    with serving() as (address, _, places), connect(address, CHUNKED % b"unread") as sock:
        until(sock, b"hello")
        with suppress(OSError):  # broken pipe or reset; else it goes on until the test is ended
            while True:
                sock.sendall(b"10000\r\n" + bytes(0x10000) + b"\r\n")
        assert places.taken == 0


@pytest.mark.parametrize(
    "content",
    [CHUNKED % b"" + b"zz\r\n", CHUNKED % b"" + b"5\r\nhello!!\r\n"],
    ids=["no size", "too long"],
)
def test_a_broken_body_is_answered_and_the_application_let_go(content, caplog):
    with serving() as (address, app, _):
        with connect(address, content) as sock:
            assert rest(sock).startswith(b"HTTP/1.1 400 ")
        assert app.gone.wait(WAIT_S)
    assert caplog.records == [], "nothing that anybody sends is an error of ours"


def test_who_asks_for_a_websocket_gets_the_ordinary_answer(caplog):
    upgrade = GET[:-2] + b"Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
    with serving() as (address, _, _), connect(address, upgrade) as sock:
        assert until(sock, b"hello").startswith(b"HTTP/1.1 200 ")
    assert caplog.records == []


def test_a_body_that_breaks_while_the_answer_goes_out_ends_the_connection(caplog):
    with serving() as (address, app, places), connect(address, CHUNKED % b"long") as sock:
        until(sock, b"\r\n\r\n")
        sock.sendall(b"zz\r\n")
        assert len(rest(sock)) < LONG
        assert app.gone.wait(WAIT_S)
    assert places.taken == 0
    assert caplog.records == []


def test_a_body_that_breaks_while_the_answer_is_made_is_no_error(caplog):
    with serving() as (address, app, _), connect(address, CHUNKED % b"late") as sock:
        assert app.begun.wait(WAIT_S)
        sock.sendall(b"zz\r\n")
        assert rest(sock).startswith(b"HTTP/1.1 400 ")
        assert app.gone.wait(WAIT_S)
    assert caplog.records == []


def test_bytes_behind_the_last_request_of_a_connection_are_thrown_away(caplog):
    last = b"GET /late HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    with serving() as (address, app, _), connect(address, last) as sock:
        assert app.begun.wait(WAIT_S)
        sock.sendall(GET * 10)
        assert until(sock, b"hello").startswith(b"HTTP/1.1 200 ")
    assert app.served == 1
    assert caplog.records == []


def test_half_requests_do_not_hold_up_the_stop():
    with serving() as (address, app, _):
        held = [connect(address, GET[:-2]), connect(address)]
        assert b"hello" in ask(address)
    for each in held:
        with each:
            assert rest(each) == b""
    assert app.served == 1


@pytest.mark.parametrize(
    ("content", "reason"),
    [(POST + b"x", "slow_request"), (GET.replace(b"/", b"/long", 1), "slow_reader")],
    ids=["half a body", "does not read"],
)
def test_who_is_silent_in_the_middle_is_let_go_when_the_server_stops(
    content, reason, caplog, monkeypatch
):
    monkeypatch.setattr(http_connection, "SILENT_S", 0.1)
    before = refused(reason)
    with serving() as (address, app, _):
        held = connect(address, content)
        while not app.served:
            time.sleep(0.01)
    with held:
        assert app.gone.wait(WAIT_S), "the application is told, not cancelled"
    assert refused(reason) == before + 1
    assert [each for each in caplog.records if each.levelname == "ERROR"] == []


def test_who_goes_on_sending_while_the_server_stops_is_answered(monkeypatch):
    monkeypatch.setattr(http_connection, "SILENT_S", 1.0)
    with serving() as (address, app, _):
        sock = connect(address, POST)
        while not app.served:
            time.sleep(0.01)

        def send() -> None:
            for _ in range(50):
                sock.sendall(b"x" * 2000)
                time.sleep(0.03)

        sending = threading.Thread(target=send)
        sending.start()
    with sock:
        sending.join()
        assert rest(sock).endswith(b"100000")


@pytest.mark.parametrize("head", [POST, CHUNKED % b""], ids=["length", "chunks"])
def test_who_sends_slowly_is_told_that_the_server_stops(head, caplog, monkeypatch):
    monkeypatch.setattr(http_connection, "LAST_S", 0.2)
    before = refused("stopping")
    over = threading.Event()
    with serving() as (address, app, _):
        sock = connect(address, head)
        sending = threading.Thread(target=send_slowly, args=(sock, over))
        sending.start()
        while not app.served:
            time.sleep(0.01)
    with sock:
        answer = rest(sock)
        over.set()
        sending.join()

    assert answer.startswith(b"HTTP/1.1 503 ")
    assert answer.endswith(b"the node is stopping; try again later\n")
    assert app.gone.wait(WAIT_S), "the application is told, not cancelled"
    assert refused("stopping") == before + 1
    assert [each for each in caplog.records if each.levelname == "ERROR"] == []


def send_slowly(sock: socket.socket, over: threading.Event) -> None:
    with suppress(OSError):
        while not over.wait(0.02):
            sock.sendall(b"1\r\nx\r\n")


def test_who_reads_slowly_gets_no_more_when_the_server_stops(caplog, monkeypatch):
    monkeypatch.setattr(http_connection, "LAST_S", 0.2)
    before = refused("stopping")
    over = threading.Event()

    def read_slowly() -> None:
        with suppress(OSError):
            while not over.wait(0.02):
                sock.recv(1000)

    with serving() as (address, app, _):
        sock = connect(address, GET.replace(b"/", b"/long", 1))
        reading = threading.Thread(target=read_slowly)
        reading.start()
        while not app.served:
            time.sleep(0.01)
    over.set()
    reading.join()
    with sock:
        assert len(rest(sock)) < LONG
    assert refused("stopping") == before + 1
    assert [each for each in caplog.records if each.levelname == "ERROR"] == []


def test_what_is_called_off_at_the_end_shows_no_traceback(caplog, monkeypatch):
    monkeypatch.setattr("lfscp.web.server.STOP_S", 0.2)
    with serving() as (address, app, _):
        sock = connect(address, GET.replace(b"/", b"/never", 1))
        assert app.begun.wait(WAIT_S)
    with sock:
        rest(sock)
    assert [each for each in caplog.records if each.exc_info] == []
