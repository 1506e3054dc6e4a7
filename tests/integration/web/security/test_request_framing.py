"""Where one request ends and the next begins: nothing that two readers could read in two ways."""

from __future__ import annotations

import re
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from lfscp.web.security.connection import MAX_AROUND_CHUNKS, MAX_HEAD_BYTES
from lfscp.web.security.connection_limits import ConnectionLimits
from tests.support.web_socket import listening

WAIT_S = 30
NEXT = b"GET /next HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n"
GET = b"GET / HTTP/1.1\r\n"
POST = b"POST / HTTP/1.1\r\nHost: x\r\n"
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"


class App:
    """Notes each request with its body, and answers."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, bytes]] = []
        self.scopes: list[Any] = []
        self.gone = threading.Event()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.scopes.append(scope)
        body, more = b"", True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                self.gone.set()
                return
            body, more = body + message["body"], message["more_body"]
        self.asked.append((scope["path"], body))
        headers = [(b"content-length", b"2")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"ok"})


@contextmanager
def serving() -> Iterator[tuple[tuple[str, int], App]]:
    app = App()
    with listening(app, ConnectionLimits(50, 20, 30.0, 0)) as server:
        yield server.address, app


def answered(address: tuple[str, int], *pieces: bytes) -> bytes:
    """All that comes back until the end."""
    found = b""
    with socket.create_connection(address, WAIT_S) as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            for piece in pieces:
                sock.sendall(piece)
            while piece := sock.recv(1 << 16):
                found += piece
        except (ConnectionResetError, BrokenPipeError):
            pass
    return found


AMBIGUOUS = {
    "a length and chunks": POST
    + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
    + SMUGGLED,
    "chunks and a length": POST
    + b"Transfer-Encoding: chunked\r\nContent-Length: 50\r\n\r\n0\r\n\r\n"
    + SMUGGLED,
    "two lengths": POST + b"Content-Length: 0\r\nContent-Length: 34\r\n\r\n" + SMUGGLED,
    "a list of lengths": POST + b"Content-Length: 0, 34\r\n\r\n" + SMUGGLED,
    "a length with a sign": POST + b"Content-Length: +34\r\n\r\n" + SMUGGLED,
    "a length in hexadecimal": POST + b"Content-Length: 0x22\r\n\r\n" + SMUGGLED,
    "a length below 0": POST + b"Content-Length: -1\r\n\r\n" + SMUGGLED,
    "a length beyond 64 bits": POST + b"Content-Length: %d\r\n\r\n" % (1 << 64) + SMUGGLED,
    "no length in the header": POST + b"Content-Length:\r\n\r\n" + SMUGGLED,
    "a blank before the colon": POST + b"Content-Length : 34\r\n\r\n" + SMUGGLED,
    "a tab before the colon": POST + b"Transfer-Encoding\t: chunked\r\n\r\n0\r\n\r\n",
    "a folded line": POST + b"X: y\r\n Content-Length: 34\r\n\r\n" + SMUGGLED,
    "a folded coding": POST + b"Transfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n" + SMUGGLED,
    "bare LF in a head": POST + b"X: y\nContent-Length: 34\r\n\r\n" + SMUGGLED,
    "bare LF at its end": POST + b"Content-Length: 34\r\n\n" + SMUGGLED,
    "bare CR in a head": POST + b"X: y\rContent-Length: 34\r\n\r\n" + SMUGGLED,
    "NUL in a head": POST + b"X: y\0z\r\n\r\n",
    "another coding": POST + b"Transfer-Encoding: identity\r\n\r\n" + SMUGGLED,
    "another coding first": POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "another coding last": POST + b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
    "nearly chunked": POST + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    "chunked twice": POST + b"Transfer-Encoding: chunked\r\n" * 2 + b"\r\n0\r\n\r\n",
    "chunks of HTTP/1.0": CHUNKED.replace(b"/1.1", b"/1.0") + b"0\r\n\r\n" + SMUGGLED,
    "a name with a blank": GET + b"Host: x\r\nA B: c\r\n\r\n",
    "a line without a name": GET + b"Host: x\r\n: c\r\n\r\n",
    "a line without a colon": GET + b"Host: x\r\nTransfer-Encoding\r\n\r\n",
    "a blank before the first name": GET + b" Host: x\r\n\r\n",
    "no Host": GET + b"\r\n",
    "two Hosts": GET + b"Host: x\r\nHost: y\r\n\r\n",
    "HTTP/0.9": b"GET /\r\n\r\n",
    "HTTP/1.2": b"GET / HTTP/1.2\r\nHost: x\r\n\r\n",
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "HTTP/2.0 by name": b"GET / HTTP/2.0\r\nHost: x\r\n\r\n",
    "a tunnel": b"CONNECT x:80 HTTP/1.1\r\nHost: x\r\nContent-Length: 34\r\n\r\n" + SMUGGLED,
    "a tunnel to a path": b"CONNECT /x HTTP/1.1\r\nHost: x\r\n\r\n" + SMUGGLED,
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    "no path": b"GET x HTTP/1.1\r\nHost: x\r\n\r\n",
    "a user": b"GET http://user@x/ HTTP/1.1\r\nHost: x\r\n\r\n",
    "a fragment": b"GET /a#b HTTP/1.1\r\nHost: x\r\n\r\n",
    "bytes beyond ASCII in the path": b"GET /\xe9 HTTP/1.1\r\nHost: x\r\n\r\n",
    "a control character in the path": b"GET /\x01 HTTP/1.1\r\nHost: x\r\n\r\n",
}


@pytest.mark.parametrize("request_", AMBIGUOUS.values(), ids=AMBIGUOUS)
def test_a_head_that_could_be_read_in_two_ways_is_refused(request_: bytes) -> None:
    with serving() as (address, app):
        found = answered(address, request_ + NEXT)
    assert found.startswith(b"HTTP/1.1 400 "), found
    assert len(re.findall(rb"HTTP/1.1 \d", found)) == 1
    assert app.scopes == []


BROKEN_CHUNKS = {
    "bare LF behind a size": b"5\nhello\r\n0\r\n\r\n",
    "bare LF in an extension": b"5;a\nb\r\nhello\r\n0\r\n\r\n",
    "a size with a sign": b"+5\r\nhello\r\n0\r\n\r\n",
    "a size below 0": b"-5\r\nhello\r\n0\r\n\r\n",
    "a size in C": b"0x5\r\nhello\r\n0\r\n\r\n",
    "a blank behind a size": b"5 \r\nhello\r\n0\r\n\r\n",
    "no size": b"\r\nhello\r\n0\r\n\r\n",
    "a size beyond 64 bits": b"1" + b"0" * 16 + b"\r\nhello\r\n0\r\n\r\n",
    "no line end behind a chunk": b"5\r\nhello0\r\n\r\n",
    "a longer chunk than its size": b"5\r\nhello!\r\n0\r\n\r\n",
    "bare LF at the end": b"5\r\nhello\r\n0\r\n\n",
    "endless extension": b"5;" + b"a" * (MAX_AROUND_CHUNKS + 200) + b"\r\nhello\r\n0\r\n\r\n",
    "endless trailers": b"0\r\n" + b"a: b\r\n" * MAX_AROUND_CHUNKS + b"\r\n",
    "a long trailer": b"0\r\na: " + b"b" * (MAX_AROUND_CHUNKS + 200) + b"\r\n\r\n",
}


@pytest.mark.parametrize("body", BROKEN_CHUNKS.values(), ids=BROKEN_CHUNKS)
def test_broken_chunks_are_refused_and_what_follows_is_not_a_request(body: bytes) -> None:
    with serving() as (address, app):
        found = answered(address, CHUNKED, body + NEXT)
        assert app.gone.wait(WAIT_S)
    assert found.startswith(b"HTTP/1.1 400 "), found
    assert len(re.findall(rb"HTTP/1.1 \d", found)) == 1
    assert app.asked == []


WHOLE = {
    "a length": (POST + b"Content-Length: 5\r\n\r\nhello", b"hello"),
    "a body that looks like a request": (
        POST + b"Content-Length: %d\r\n\r\n" % len(SMUGGLED) + SMUGGLED,
        SMUGGLED,
    ),
    "chunks": (CHUNKED + b"5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n", b"hello world"),
    "chunks that look like requests": (
        CHUNKED + b"%x\r\n" % len(SMUGGLED) + SMUGGLED + b"\r\n0\r\n\r\n",
        SMUGGLED,
    ),
    "chunks of one byte": (CHUNKED + b"1\r\nx\r\n" * 20_000 + b"0\r\n\r\n", b"x" * 20_000),
    "chunks of empty lines": (
        CHUNKED + b"1000\r\n" + b"\r\n" * 0x800 + b"\r\n0\r\n\r\n",
        b"\r\n" * 0x800,
    ),
    "an extension": (CHUNKED + b"5;a=b\r\nhello\r\n0\r\n\r\n", b"hello"),
    "trailers": (CHUNKED + b"5\r\nhello\r\n0\r\nX-Late: y\r\n\r\n", b"hello"),
    "CHUNKED": (CHUNKED.replace(b"chunked", b"CHUNKED ") + b"0\r\n\r\n", b""),
    "a body of GET": (GET + b"Host: x\r\nContent-Length: 5\r\n\r\nhello", b"hello"),
    "no body": (GET + b"Host: x\r\n\r\n", b""),
    "empty lines before it": (b"\r\n\r\n" + GET + b"Host: x\r\n\r\n", b""),
    "another protocol wanted": (
        POST
        + b"Connection: Upgrade\r\nUpgrade: h2c\r\nContent-Length: 34\r\n\r\n"
        + SMUGGLED[:34].ljust(34),
        SMUGGLED[:34].ljust(34),
    ),
    "another protocol, in chunks": (
        POST
        + b"Transfer-Encoding: chunked\r\nuPGRADE: h2c\r\nConnection: Upgrade\r\n\r\n"
        + b"%x\r\n" % len(SMUGGLED)
        + SMUGGLED
        + b"\r\n0\r\n\r\n",
        SMUGGLED,
    ),
    "another protocol, no body": (
        GET + b"Host: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
        b"",
    ),
}


@pytest.mark.parametrize("at_once", [1 << 20, 1], ids=["at once", "byte by byte"])
@pytest.mark.parametrize(("request_", "body"), WHOLE.values(), ids=WHOLE)
def test_each_request_is_read_to_its_end_however_it_comes(
    request_: bytes, body: bytes, at_once: int
) -> None:
    content = request_ + request_ + NEXT
    if at_once == 1 and len(content) > 1000:
        pytest.skip("too many pieces")
    pieces = [content[at : at + at_once] for at in range(0, len(content), at_once)]
    with serving() as (address, app):
        found = answered(address, *pieces)
    assert app.asked == [("/", body), ("/", body), ("/next", b"")]
    assert found.count(b"HTTP/1.1 200 ") == 3


def test_headers_behind_a_body_are_not_those_of_the_request() -> None:
    trailers = b"0\r\nAuthorization: Bearer x\r\nHost: y\r\n\r\n"
    with serving() as (address, app):
        answered(address, CHUNKED, trailers + NEXT)
    assert [name for name, _ in app.scopes[0]["headers"]] == [b"host", b"transfer-encoding"]
    assert app.asked == [("/", b""), ("/next", b"")]


def test_blanks_around_a_value_do_not_belong_to_it() -> None:
    head = GET + b"Host: \t x \t\r\nA:  b c  \r\nEmpty:\r\nConnection: close\r\n\r\n"
    with serving() as (address, app):
        answered(address, head)
    found = dict(app.scopes[0]["headers"])
    assert (found[b"host"], found[b"a"], found[b"empty"]) == (b"x", b"b c", b"")


def test_the_host_of_a_whole_url_counts_instead_of_the_header() -> None:
    """RFC 9112 section 3.2.2."""
    head = b"GET http://y:8042/a%20b?c=d HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    with serving() as (address, app):
        answered(address, head)
    [scope] = app.scopes
    assert (scope["path"], scope["query_string"]) == ("/a b", b"c=d")
    assert [each for each in scope["headers"] if each[0] == b"host"] == [(b"host", b"y:8042")]


def test_a_path_with_two_slashes_is_a_path() -> None:
    with serving() as (address, app):
        answered(address, b"GET //y/z?q HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    assert (app.scopes[0]["path"], app.scopes[0]["query_string"]) == ("//y/z", b"q")


@pytest.mark.parametrize(
    ("size", "status"), [(MAX_HEAD_BYTES, b"200"), (MAX_HEAD_BYTES + 1, b"400")]
)
def test_the_longest_head_is_taken_and_no_longer_one(size: int, status: bytes) -> None:
    begin = GET + b"Host: x\r\nConnection: close\r\nA: "
    head = begin + b"b" * (size - len(begin) - 4) + b"\r\n\r\n"
    for pieces in ([head], [head[:100], head[100:-3], head[-3:]]):
        with serving() as (address, _):
            assert answered(address, *pieces).startswith(b"HTTP/1.1 " + status)


def test_empty_lines_without_end_are_no_request() -> None:
    with serving() as (address, app):
        assert answered(address, b"\r\n" * MAX_HEAD_BYTES).startswith(b"HTTP/1.1 400 ")
    assert app.scopes == []


def test_the_end_of_an_answered_chunked_body_is_not_taken_for_a_request() -> None:
    """The application here reads all, so the second request is answered after the first."""
    content = CHUNKED + b"3\r\nabc\r\n0\r\n\r\n"
    with serving() as (address, app):
        answered(address, content * 50 + NEXT)
    assert app.asked == [("/", b"abc")] * 50 + [("/next", b"")]


def test_who_asks_before_a_body_is_told_to_send_it() -> None:
    head = POST + b"Content-Length: 5\r\nExpect: 100-continue\r\nConnection: close\r\n\r\n"
    with serving() as (address, app), socket.create_connection(address, WAIT_S) as sock:
        sock.sendall(head)
        assert sock.recv(1 << 16).startswith(b"HTTP/1.1 100 ")
        sock.sendall(b"hello")
        assert sock.recv(1 << 16).startswith(b"HTTP/1.1 200 ")
    assert app.asked == [("/", b"hello")]


def test_a_client_of_http_1_0_is_answered_without_a_host() -> None:
    with serving() as (address, app):
        found = answered(address, b"GET / HTTP/1.0\r\n\r\n")
    assert found.endswith(b"\r\n\r\nok")
    assert app.asked == [("/", b"")]
