"""Hundreds of requests at once: all are answered, in turn, and nothing is left open."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lfscp.web.security.turns import AT_ONCE, PICTURES_AT_ONCE
from tests.support.retrieved_objects import as_file
from tests.support.web_app import serving
from tests.support.web_objects import CT_SERIES, CT_STUDY, ct_slice
from tests.support.web_socket import on_socket

MANY = 200
EDGE = 2048  # 8 MB a frame: more than the buffers on the way take
SMALL, LARGE = f"{CT_SERIES}.1", f"{CT_SERIES}.2"
ANOTHER_ADDRESS = "127.0.0.2"
WAIT_S = 60

Address = tuple[str, int]


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Address, Any]]:
    """A node with the default limits, on a socket."""
    with serving(tmp_path_factory.mktemp("many") / "data") as client:
        for each in (ct_slice(1, 2), ct_slice(2, 2, EDGE)):
            assert client.post("/api/instances", content=as_file(each)).status_code == 201
        with on_socket(client) as server:
            frame(server.address, SMALL)  # what a first answer opens stays open
            yield server.address, client.app


def asking(
    address: Address, instance: str, source: str = "127.0.0.1", form: str = ""
) -> socket.socket:
    """A connection with a request for the frame of an instance, whose answer is not read yet."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 14)
    sock.settimeout(WAIT_S)
    sock.bind((source, 0))
    sock.connect(address)
    path = f"/dicom-web/studies/{CT_STUDY}/series/{CT_SERIES}/instances/{instance}/frames/1{form}"
    head = f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n"
    accept = "image/jpeg" if form else "application/octet-stream"
    sock.sendall(f"{head}Accept: {accept}\r\n\r\n".encode())
    return sock


def answer_of(sock: socket.socket) -> tuple[bytes, bytes]:
    """The status and the content of an answer."""
    with sock:
        content = bytearray()
        while piece := sock.recv(1 << 20):
            content += piece
    head, _, body = bytes(content).partition(b"\r\n\r\n")
    return head.split(b" ")[1], body


def frame(address: Address, instance: str, source: str = "127.0.0.1") -> tuple[bytes, bytes]:
    return answer_of(asking(address, instance, source))


def open_descriptors() -> int:
    """Sockets and files that are open, but for the index, whose connections are kept."""
    found = 0
    for each in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):  # the one of this loop
            found += "index" not in each.readlink().name
    return found


def until(is_so: Any) -> None:
    end = time.monotonic() + WAIT_S
    while not is_so():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_two_hundred_at_once_from_one_address_are_all_answered(node):
    address, app = node
    before = open_descriptors()
    asked = [asking(address, SMALL) for _ in range(MANY)]
    answers = [answer_of(each) for each in asked]

    assert {status for status, _ in answers} == {b"200"}
    assert {body for _, body in answers} == {ct_slice(1, 2).PixelData}
    until(lambda: app.state.web.turns.taken == 0)
    until(lambda: open_descriptors() <= before)


def test_those_who_do_not_read_hold_back_their_own_requests_only(node):
    address, app = node
    before = open_descriptors()
    begun = threading.active_count()
    with contextlib.ExitStack() as opened:
        asked = [opened.enter_context(asking(address, LARGE)) for _ in range(AT_ONCE + 20)]
        until(lambda: app.state.web.turns.taken == len(asked))
        status, body = frame(address, SMALL, ANOTHER_ADDRESS)
        assert status == b"200"
        assert body == ct_slice(1, 2).PixelData
        # Some go away while they wait or are served; the others get what they asked for.
        for each in (*asked[:AT_ONCE:2], *asked[AT_ONCE::2]):
            each.close()
        wanted = ct_slice(2, 2, EDGE).PixelData
        assert answer_of(asked[1]) == (b"200", wanted)
        assert answer_of(asked[AT_ONCE + 1]) == (b"200", wanted)
    until(lambda: app.state.web.turns.taken == 0)
    until(lambda: open_descriptors() <= before)
    assert threading.active_count() <= begun + 32


def test_who_asks_for_many_pictures_takes_no_place_of_others(node):
    address, app = node
    web = app.state.web
    first = answer_of(asking(address, SMALL, form="/rendered?quality=1"))
    assert first[0] == b"200"
    with contextlib.ExitStack() as opened:
        many = [
            opened.enter_context(asking(address, LARGE, form=f"/rendered?quality={number}"))
            for number in range(20, 80)
        ]
        until(lambda: web.picture_turns.taken >= len(many) // 2)
        other = answer_of(asking(address, SMALL, ANOTHER_ADDRESS, form="/rendered?quality=90"))
        assert web.renderer.pool._memory.waiting <= PICTURES_AT_ONCE
        assert other[0] == b"200"
        assert {answer_of(each)[0] for each in many} == {b"200"}
    until(lambda: web.picture_turns.taken == 0)
