"""Objects and frames that go from their files to a socket: whole, broken off, and slowly read."""

from __future__ import annotations

import http.client
import os
import socket
import struct
import threading
import time
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from PIL import Image
from pydicom import dcmread

from lfscp.archive.store.kept_beside import PICTURES
from lfscp.web.security.connection_limits import ConnectionLimits
from lfscp.web.security.sent_files import FileSpan, sent_files
from lfscp.web.server import HttpServer
from tests.support.multipart_parts import parts_of
from tests.support.retrieved_objects import as_file
from tests.support.web_app import serving
from tests.support.web_objects import CT_SERIES, CT_STUDY, ct_slice
from tests.support.web_socket import WAIT_S, listening, on_socket

EDGE = 512  # half a MB an object: several of them are fetched at a time
COUNT = 10
STUDY_URL = f"/dicom-web/studies/{CT_STUDY}"
DICOM = 'multipart/related; type="application/dicom"; transfer-syntax=*'
OCTETS = 'multipart/related; type="application/octet-stream"'

Node = tuple[HttpServer, Path]


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    """A node on a socket, with a study of some long objects."""
    data = tmp_path_factory.mktemp("sent") / "data"
    with serving(data) as client:
        for number in range(1, COUNT + 1):
            content = as_file(ct_slice(number, COUNT, EDGE))
            assert client.post("/api/instances", content=content).status_code == 201
        with on_socket(client) as server:
            yield server, data


def ask(node: Node, path: str, accept: str) -> http.client.HTTPResponse:
    connection = http.client.HTTPConnection(*node[0].address, timeout=WAIT_S)
    connection.request("GET", path, headers={"Accept": accept, "Connection": "close"})
    return connection.getresponse()


def contents(answer: http.client.HTTPResponse, body: bytes) -> list[bytes]:
    headers = {"content-type": answer.headers["Content-Type"]}
    parts = parts_of(SimpleNamespace(headers=headers, content=body))
    return [part.content for part in parts]


def instance_url(number: int) -> str:
    made = ct_slice(number, COUNT, EDGE)
    return f"{STUDY_URL}/series/{made.SeriesInstanceUID}/instances/{made.SOPInstanceUID}"


def stored_files(data: Path, number: int) -> list[Path]:
    uid = str(ct_slice(number, COUNT, EDGE).SOPInstanceUID).encode()
    return [
        path
        for path in (data / "objects").rglob("*")
        if path.is_file() and uid in path.read_bytes()[:1000]
    ]


def open_objects(data: Path) -> list[str]:
    """The stored files that this process has open."""
    found = []
    for each in Path("/proc/self/fd").iterdir():
        try:
            found.append(each.readlink())
        except OSError:
            continue
    return [str(path) for path in found if path.is_relative_to(data) and _is_object(path)]


def _is_object(path: Path) -> bool:
    return "objects" in path.parts and path.is_file() and path.stat().st_size > EDGE * EDGE


def test_a_study_is_its_files_one_after_another(node: Node) -> None:
    answer = ask(node, STUDY_URL, DICOM)
    found = contents(answer, answer.read())

    assert [dcmread(BytesIO(each)).PixelData for each in found] == [
        ct_slice(number, COUNT, EDGE).PixelData for number in range(1, COUNT + 1)
    ]
    assert open_objects(node[1]) == []


def test_one_object_is_its_file_to_the_last_byte(node: Node) -> None:
    answer = ask(node, instance_url(2), "application/dicom; transfer-syntax=*")

    assert answer.read() == stored_files(node[1], 2)[0].read_bytes()


@pytest.mark.parametrize("frames", ["1", "1,1"])
def test_frames_are_the_pixels_and_their_length_is_said(node: Node, frames: str) -> None:
    answer = ask(node, f"{instance_url(3)}/frames/{frames}", OCTETS)
    body = answer.read()

    assert int(answer.headers["Content-Length"]) == len(body)
    assert contents(answer, body) == [ct_slice(3, COUNT, EDGE).PixelData] * len(frames.split(","))


def test_a_slow_reader_gets_every_byte(node: Node) -> None:
    whole = ask(node, STUDY_URL, DICOM)
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 14)
        sock.settimeout(WAIT_S)
        sock.connect(node[0].address)
        head = f"GET {STUDY_URL} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n"
        sock.sendall(f"{head}Accept: {DICOM}\r\n\r\n".encode())
        slow = http.client.HTTPResponse(sock)
        slow.begin()
        assert contents(slow, slow.read()) == contents(whole, whole.read())


def test_a_file_that_is_gone_breaks_the_answer_off_behind_the_others(node: Node) -> None:
    (path,) = stored_files(node[1], 3)
    path.rename(path.with_name("away"))
    try:
        answer = ask(node, STUDY_URL, DICOM)
        with pytest.raises(http.client.IncompleteRead) as broken:
            answer.read()
    finally:
        path.with_name("away").rename(path)

    whole = ct_slice(2, COUNT, EDGE).PixelData
    assert answer.status == 200
    assert whole in broken.value.partial
    assert open_objects(node[1]) == []


@pytest.mark.parametrize("what", ["/frames/1", ""])
def test_a_file_that_is_cut_while_it_is_sent_ends_the_connection(
    node: Node, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    """Else the next answer would be taken for the bytes that lack."""
    (path,) = stored_files(node[1], 4)
    whole, fetch = path.read_bytes(), FileSpan.fetch

    def fetch_and_cut(span: FileSpan) -> None:
        fetch(span)
        os.truncate(path, len(whole) // 2)

    monkeypatch.setattr(FileSpan, "fetch", fetch_and_cut)
    connection = http.client.HTTPConnection(*node[0].address, timeout=WAIT_S)
    try:
        accept = OCTETS if what else DICOM
        connection.request("GET", instance_url(4) + what, headers={"Accept": accept})
        with pytest.raises(http.client.IncompleteRead):
            connection.getresponse().read()
    finally:
        path.write_bytes(whole)
        connection.close()


def test_a_client_that_goes_away_leaves_nothing_open(node: Node) -> None:
    with socket.create_connection(node[0].address, WAIT_S) as sock:
        head = f"GET {STUDY_URL} HTTP/1.1\r\nHost: 127.0.0.1\r\n"
        sock.sendall(f"{head}Accept: {DICOM}\r\n\r\n".encode())
        assert sock.recv(1000)
    until = time.monotonic() + WAIT_S
    while open_objects(node[1]) and time.monotonic() < until:
        time.sleep(0.01)

    assert open_objects(node[1]) == []


def test_bytes_that_a_file_lacks_are_not_fetched(tmp_path: Path) -> None:
    path = tmp_path / "short"
    path.write_bytes(bytes(100_000))
    with path.open("rb") as file:
        FileSpan(file.fileno(), 10, 99_990).fetch()
        with pytest.raises(OSError, match="1 bytes shorter"):
            FileSpan(file.fileno(), 10, 99_991).fetch()


def test_what_goes_to_a_client_that_left_is_no_news(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_bytes(bytes(1000))
    has_left, done = threading.Event(), threading.Event()

    async def app(scope: Any, _: Any, send: Any) -> None:
        with (tmp_path / "file").open("rb") as file:
            spans = [FileSpan(file.fileno(), 0, 1000, b"before")] * 20
            length = str(sum(each.total for each in spans)).encode()
            headers = [(b"content-length", length)]
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            has_left.wait(WAIT_S)  # the event loop does not hear of it
            assert await sent_files(scope).send(spans)  # type: ignore[union-attr]
        done.set()

    with listening(app, ConnectionLimits(10, 10, 30, 0)) as server:
        with socket.create_connection(server.address, WAIT_S) as sock:
            sock.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            assert sock.recv(1000)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        has_left.set()
        assert done.wait(WAIT_S)

    assert [each.message for each in caplog.records if each.name == "asyncio"] == []


def test_a_picture_is_sent_from_the_file_that_it_was_drawn_into(node: Node) -> None:
    path = f"{STUDY_URL}/series/{CT_SERIES}/instances/{CT_SERIES}.1/rendered"
    answers = [ask(node, path, "image/jpeg") for _ in range(2)]  # drawn, and from the cache
    bodies = [each.read() for each in answers]

    assert [each.status for each in answers] == [200, 200]
    assert [int(each.headers["Content-Length"]) for each in answers] == [len(bodies[0])] * 2
    assert bodies[0] == bodies[1]
    assert Image.open(BytesIO(bodies[0])).size == (EDGE, EDGE)
    kept = [each for each in (node[1] / PICTURES).rglob("*") if each.is_file()]
    assert bodies[0] in [each.read_bytes() for each in kept]
    assert not [each for each in kept if each.suffix == ".part"]
