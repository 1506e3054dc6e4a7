"""Uploads of the page whose bytes a thread receives from the socket."""

from __future__ import annotations

import http.client
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.dicom_peer import until
from tests.support.retrieved_objects import as_file
from tests.support.web_app import serving
from tests.support.web_objects import ct_slice
from tests.support.web_socket import WAIT_S, on_socket

SLICE = ct_slice(1, 1, 1024)  # 2 MB
FILE = f"/api/instances/{SLICE.SOPInstanceUID}/file"


@pytest.fixture
def node(tmp_path: Path) -> Iterator[tuple[Any, Any]]:
    with serving(tmp_path) as client, on_socket(client) as server:
        yield client, server


def incoming(client: Any) -> list[Path]:
    return list(client.app.state.web.archive.incoming_dir.iterdir())


@pytest.mark.parametrize("is_chunked", [False, True])
def test_an_upload_is_stored_byte_by_byte(node: Any, is_chunked: bool) -> None:
    client, server = node
    content = as_file(SLICE)
    connection = http.client.HTTPConnection(*server.address, timeout=WAIT_S)
    for _ in range(2):  # the connection serves the next request
        body = iter([content[:1000], content[1000:]]) if is_chunked else content
        connection.request("POST", "/api/instances", body, encode_chunked=is_chunked)
        answer = connection.getresponse()
        answer.read()
        assert answer.status == 201
    connection.close()

    assert client.get(FILE).content == content
    assert incoming(client) == []


def test_an_upload_that_breaks_off_leaves_nothing(node: Any) -> None:
    client, server = node
    with socket.create_connection(server.address, WAIT_S) as sock:
        head = "POST /api/instances HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 9000000\r\n\r\n"
        sock.sendall(head.encode() + as_file(SLICE))
        assert until(lambda: len(incoming(client)) == 1)

    assert until(lambda: incoming(client) == [])
    assert client.get("/api/statistics").json()["instances"] == 0


def test_the_reserve_of_the_disk_ends_it_before_it_has_come_whole(
    node: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    client, server = node
    monkeypatch.setattr("lfscp.web.api.upload._LOOK_AT_SPACE_BYTES", 1 << 20)
    monkeypatch.setattr(client.app.state.web.archive.space, "_reserve_mb", 10**12)
    with socket.create_connection(server.address, WAIT_S) as sock:
        head = "POST /api/instances HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 9000000\r\n\r\n"
        sock.sendall(head.encode() + as_file(SLICE))
        assert sock.recv(100).startswith(b"HTTP/1.1 507 ")

    assert incoming(client) == []
