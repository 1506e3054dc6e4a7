"""A node that is sent objects by STOW-RS: by dicomweb-client, and by clients that break off."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests
from dicomweb_client.api import DICOMwebClient
from pydicom import dcmread
from pydicom.dataset import Dataset

from lfscp.dicom.part10.file_meta import part10_header
from tests.support.archive_datasets import CT_IMAGE, EXPLICIT, encoded
from tests.support.web_objects import CT_STUDY, write_all

LARGE = int(os.environ.get("LFSCP_TEST_LARGE_OBJECT_MB", "300")) << 20
ALLOWED_GROWTH = 100 << 20
MULTIPART = {"Content-Type": 'multipart/related; type="application/dicom"; boundary=b'}
HEAD = b"--b\r\nContent-Type: application/dicom\r\n\r\n"


@pytest.fixture
def node(start_node: Any) -> Any:
    return start_node(flags=["--http-port", "0"])


@pytest.fixture
def address(node: Any) -> tuple[str, int]:
    url = urlsplit(node.wait_for("page")["url"])
    return str(url.hostname), int(url.port or 0)


def file_of(number: int, pixels: bytes = b"\0" * 64) -> bytes:
    return part10_header(CT_IMAGE, f"1.2.3.1.{number}", EXPLICIT) + encoded(number, pixels=pixels)


def high_water_mark(process: int) -> int:
    for line in Path(f"/proc/{process}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) << 10
    raise AssertionError("no VmHWM")


def asked(address: tuple[str, int], method: str, path: str, body: Any = None) -> int:
    connection = HTTPConnection(*address, timeout=60)
    try:
        connection.request(method, path, body, MULTIPART)
        return connection.getresponse().status
    finally:
        connection.close()


def is_empty(node: Any) -> bool:
    return not [path for path in node.data_dir.rglob("*") if path.name.startswith("stow-")]


def test_dicomweb_client_stores_a_study_and_finds_it(node, address, tmp_path):
    files = sorted(write_all(tmp_path / "objects", slices=4).glob("*.dcm"))
    datasets = [dcmread(file) for file in files]
    client = DICOMwebClient(f"http://{address[0]}:{address[1]}/dicom-web")
    answer = client.store_instances(datasets)
    stored = [item.ReferencedSOPInstanceUID for item in answer.ReferencedSOPSequence]

    assert sorted(stored) == sorted(each.SOPInstanceUID for each in datasets)
    assert "FailedSOPSequence" not in answer
    found = client.search_for_studies(search_filters={"StudyInstanceUID": CT_STUDY})
    study = Dataset.from_json(found[0])
    assert study.NumberOfStudyRelatedInstances == 4
    with pytest.raises(requests.HTTPError) as refused:
        client.store_instances(datasets[:1], study_instance_uid="1.2.3.4.5")
    assert refused.value.response.status_code == 409
    failed = Dataset.from_json(refused.value.response.json()).FailedSOPSequence
    assert [each.FailureReason for each in failed] == [0xC409]


def test_a_large_object_is_stored_in_bounded_memory(node, address):
    assert asked(address, "POST", "/dicom-web/studies", HEAD + file_of(1) + b"\r\n--b--") == 200
    whole = file_of(2, b"")
    length = len(whole) - 4  # of the pixel data, which come last
    beginning = whole[:length] + LARGE.to_bytes(4, "little")

    def body() -> Iterator[bytes]:
        yield HEAD + beginning
        piece = bytes(1 << 20)
        for _ in range(LARGE >> 20):
            yield piece
        yield b"\r\n--b--"

    before = high_water_mark(node.pid)
    assert asked(address, "POST", "/dicom-web/studies", body()) == 200
    assert high_water_mark(node.pid) - before < ALLOWED_GROWTH
    assert is_empty(node)


def test_a_client_that_breaks_off_leaves_nothing_and_what_was_whole_stays(node, address):
    content = HEAD + file_of(1) + b"\r\n" + HEAD + file_of(2, b"\0" * 2_000_000)
    head = (
        f"POST /dicom-web/studies HTTP/1.1\r\nHost: {address[0]}:{address[1]}\r\n"
        f"Content-Type: {MULTIPART['Content-Type']}\r\nContent-Length: 9000000\r\n\r\n"
    )
    with socket.create_connection(address) as client:
        client.sendall(head.encode() + content[:-1000])
    said = node.wait_for("request broke off")

    assert said["stored"] == 1
    deadline = time.monotonic() + 30  # it says so before it has cleared up
    while not is_empty(node):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert asked(address, "GET", "/api/instances/1.2.3.1.1") == 200
    assert asked(address, "GET", "/api/instances/1.2.3.1.2") == 404


def test_a_body_longer_than_its_content_length_is_cut_there(node, address):
    content = HEAD + file_of(1) + b"\r\n" + HEAD + file_of(2) + b"\r\n--b--"
    head = (
        f"POST /dicom-web/studies HTTP/1.1\r\nHost: {address[0]}:{address[1]}\r\n"
        f"Content-Type: {MULTIPART['Content-Type']}\r\nContent-Length: {len(content) - 50}\r\n\r\n"
    )
    with socket.create_connection(address, timeout=60) as client:
        client.sendall(head.encode() + content)
        answer = client.recv(1 << 16)
    assert answer.startswith(b"HTTP/1.1 202 ")
    assert asked(address, "GET", "/api/instances/1.2.3.1.1") == 200
    assert is_empty(node)


def test_objects_that_come_together_are_answered_in_their_order(node, address):
    files = {number: file_of(number, bytes(300_000)) for number in range(1, 30)}
    same = file_of(5, b"\1" * 64)  # of a UID that has come: the first one stays
    body = b"".join(HEAD + each + b"\r\n" for each in (*files.values(), b"none", same))
    connection = HTTPConnection(*address, timeout=60)
    connection.request("POST", "/dicom-web/studies", body + b"--b--", MULTIPART)
    answer = connection.getresponse()
    dataset = Dataset.from_json(answer.read().decode())
    connection.close()

    assert answer.status == 202
    stored = [each.ReferencedSOPInstanceUID for each in dataset.ReferencedSOPSequence]
    wanted = [f"1.2.3.1.{number}" for number in (*files, 5)]
    assert stored == wanted
    assert len(dataset.OtherFailuresSequence) == 1
    paths = {path.name: path for path in (node.data_dir / "objects").rglob("*.dcm")}
    assert {name: path.stat().st_size for name, path in paths.items()} == {
        f"1.2.3.1.{number}.dcm": len(content) for number, content in files.items()
    }
    assert is_empty(node)
