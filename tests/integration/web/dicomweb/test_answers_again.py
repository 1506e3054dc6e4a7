"""Frames that are asked for again: the same answer without a thread, and never an old one."""

from __future__ import annotations

import json
import os
from base64 import b64encode
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from fastapi.testclient import TestClient
from pydicom.encaps import encapsulate
from pydicom.uid import JPEG2000Lossless

from lfscp.archive.archive import Archive
from lfscp.config.passwords import hash_password
from lfscp.dicom.values.attributes import Level
from lfscp.observe import audit
from lfscp.web.dicomweb import answering
from lfscp.web.security import page_cache
from lfscp.web.server import HttpServer
from tests.support.dicom_peer import until
from tests.support.multipart_parts import parts_of
from tests.support.retrieved_objects import as_file
from tests.support.web_app import serving
from tests.support.web_objects import CT_SERIES, CT_STUDY, ct_slice
from tests.support.web_socket import ask, on_socket

EDGE = 256
SEEN = "110103"  # DICOM Instances Accessed
OCTETS = 'multipart/related; type="application/octet-stream"'
SINGLE = "application/octet-stream"
INSTANCE = ct_slice(1, 2, EDGE).SOPInstanceUID
FRAME = f"/dicom-web/studies/{CT_STUDY}/series/{CT_SERIES}/instances/{INSTANCE}/frames/1"


class Node:
    """A node with two slices.

    Args:
        threads: how often a request was handed to a thread.
    """

    def __init__(self, client: TestClient, server: HttpServer, data: Path) -> None:
        self.client = client
        self.server = server
        self.data = data
        self.threads = 0

    @property
    def archive(self) -> Archive:
        archive: Archive = self.client.app.state.web.archive  # type: ignore[attr-defined]
        return archive

    def get(self, path: str = FRAME, accept: str = OCTETS, **headers: str) -> Any:
        answer, body = ask(self.server, path, Accept=accept, **headers)
        return SimpleNamespace(status=answer.status, headers=answer.headers, content=body)

    def pixels(self, **asked: str) -> bytes:
        answer = self.get(**asked)
        assert answer.status == 200
        headers = {"content-type": answer.headers["Content-Type"]}
        [part] = parts_of(SimpleNamespace(headers=headers, content=answer.content))
        return bytes(part.content)


@pytest.fixture
def node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Node]:
    with serving(tmp_path, duplicates="replace") as client, on_socket(client) as server:
        for number in (1, 2):
            store(client, ct_slice(number, 2, EDGE))
        node, threads = Node(client, server, tmp_path), answering.threads

        def counted() -> Any:
            node.threads += 1
            return threads()

        monkeypatch.setattr(answering, "threads", counted)
        yield node


def store(client: TestClient, dataset: Any) -> None:
    assert client.post("/api/instances", content=as_file(dataset)).status_code in (200, 201)


def test_the_same_question_gets_the_same_answer_without_a_thread(node: Node) -> None:
    first, again = node.get(), node.get()

    assert node.threads == 1
    assert again.content == first.content
    assert {**again.headers, "date": ""} == {**first.headers, "date": ""}
    assert node.pixels() == ct_slice(1, 2, EDGE).PixelData


def test_no_file_stays_open(node: Node) -> None:
    for _ in range(10):
        node.get()

    assert until(lambda: open_objects(node.data) == [])  # the last one as soon as it is sent


def open_objects(folder: Path) -> list[str]:
    """The objects that this process has open below a folder."""
    names = []
    for each in Path("/proc/self/fd").iterdir():
        with suppress(OSError):  # closed meanwhile, by a thread
            names.append(str(each.readlink()))
    return [each for each in names if each.startswith(str(folder)) and each.endswith(".dcm")]


def test_another_form_is_another_question(node: Node) -> None:
    node.get()
    alone = node.get(accept=SINGLE)

    assert alone.headers["Content-Type"].startswith(SINGLE)
    assert alone.content == ct_slice(1, 2, EDGE).PixelData
    assert node.get(accept="image/jp2").status == 406
    in_query = node.get(f"{FRAME}?accept={SINGLE}")
    assert in_query.headers["Content-Type"].startswith(SINGLE)


def test_a_client_that_has_it_is_told_so_without_a_thread(node: Node) -> None:
    tag = node.get().headers["ETag"]
    again = node.get(If_None_Match=f'"other", {tag}')

    assert (again.status, again.content, node.threads) == (304, b"", 1)


def test_a_head_alone_is_asked_for(node: Node) -> None:
    whole = node.get()
    answer, body = ask(node.server, FRAME, "HEAD", Accept=OCTETS)

    assert (answer.status, body) == (200, b"")
    assert answer.headers["Content-Length"] == whole.headers["Content-Length"]


def test_a_deleted_object_is_gone_at_once(node: Node) -> None:
    node.get()
    node.archive.delete(Level.IMAGE, str(INSTANCE))

    assert node.get().status == 404


def test_a_row_that_another_process_deletes_counts_at_once(node: Node) -> None:
    node.get()
    node.archive.index.delete(Level.STUDY, CT_STUDY, None)

    assert node.get().status == 404


def test_an_object_that_is_replaced_is_the_new_one(node: Node) -> None:
    node.get()
    changed = ct_slice(1, 2, EDGE)
    changed.PixelData = bytes(len(changed.PixelData))
    store(node.client, changed)

    assert node.pixels() == changed.PixelData


def test_a_file_that_is_away_is_said_as_ever(node: Node) -> None:
    node.get()
    [path] = node.data.rglob(f"{INSTANCE}*")
    path.rename(node.data / "away")

    assert node.get().status == 410


def test_a_file_that_is_another_is_read_anew(node: Node) -> None:
    node.get()
    [path] = node.data.rglob(f"{INSTANCE}*")
    content = bytearray(path.read_bytes())
    content[-4:] = b"\1\2\3\4"
    (node.data / "other").write_bytes(content)
    (node.data / "other").rename(path)

    assert node.pixels()[-4:] == b"\1\2\3\4"


def test_bytes_that_are_not_in_memory_are_read_in_a_thread(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    node.get()
    monkeypatch.setattr("lfscp.web.dicomweb.retrieving.again.is_in_memory", lambda *_: False)

    assert node.pixels() == ct_slice(1, 2, EDGE).PixelData
    assert node.threads == 2


def test_an_old_kernel_does_not_tell_but_reads_without_waiting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(page_cache, "_LIBC", None)
    path = tmp_path / "file"
    path.write_bytes(bytes(300_000))
    with path.open("rb") as file:
        tells = page_cache._can_read_at_once(file.fileno(), 0, 10)  # not each file system does
        assert page_cache.is_in_memory(file.fileno(), 7, 299_993) is tells
        assert not page_cache.is_in_memory(file.fileno(), 7, 299_994)


def test_bytes_that_were_given_up_are_not_in_memory(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(bytes(300_000))
    with path.open("rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        is_kept = bool(page_cache._said(file.fileno(), 0, 10))  # a file system in memory keeps all
        assert page_cache.is_in_memory(file.fileno(), 0, 300_000) is is_kept
        page_cache.fetch(file.fileno(), 0, 300_000)
        assert page_cache.is_in_memory(file.fileno(), 0, 300_000)


@pytest.mark.usefixtures("quick_passwords")
def test_each_caller_is_let_in_and_noted(tmp_path: Path) -> None:
    users = {name: basic(name) for name in ("jane", "john")}
    web = {"users": [f"{name}:{hash_password(name)}" for name in users]}
    audit.start(tmp_path / "audit.log", "LFSCP")
    try:
        with serving(tmp_path / "data", web=web) as client, on_socket(client) as server:
            client.auth = ("jane", "jane")
            store(client, ct_slice(1, 2, EDGE))
            for who in (users["jane"], users["jane"], users["john"], users["john"], basic("eve")):
                answer, _ = ask(server, FRAME, Accept=OCTETS, Authorization=who)
                assert answer.status == (200 if who in users.values() else 401)
            assert ask(server, FRAME, Accept=OCTETS)[0].status == 401
    finally:
        audit.stop()

    records = map(json.loads, (tmp_path / "audit.log").read_text().splitlines())
    seen = [each for each in records if each["EventIdentification"]["EventID"]["csd-code"] == SEEN]
    assert [each["ActiveParticipant"][0]["UserID"] for each in seen] == ["jane", "john"]


def basic(name: str) -> str:
    return f"Basic {b64encode(f'{name}:{name}'.encode()).decode()}"


def test_a_frame_of_some_megabytes_goes_the_same_way(node: Node) -> None:
    large = ct_slice(2, 2, 1500)
    store(node.client, large)
    url = FRAME.replace(str(INSTANCE), str(large.SOPInstanceUID))
    found = [node.pixels(path=url), node.pixels(path=url)]

    assert found == [large.PixelData] * 2
    assert node.threads == 1


@pytest.mark.parametrize(("fragments", "threads"), [(16, 1), (17, 2), (1001, 2)])
def test_a_frame_in_few_fragments_needs_no_thread_and_one_in_many_is_right_too(
    node: Node, fragments: int, threads: int
) -> None:
    compressed = ct_slice(1, 2, 16)
    compressed.file_meta.TransferSyntaxUID = JPEG2000Lossless
    compressed.PixelData = encapsulate([bytes(range(200)) * 20], fragments_per_frame=fragments)
    compressed["PixelData"].VR, compressed["PixelData"].is_undefined_length = "OB", True
    store(node.client, compressed)
    found = [node.pixels(accept=f"{OCTETS}; transfer-syntax=*") for _ in range(2)]

    assert found == [bytes(range(200)) * 20] * 2
    assert node.threads == threads


def test_an_unexpected_error_is_answered_and_logged_once(
    node: Node, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def fails(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("lfscp.web.dicomweb.retrieving.frames.wanted_forms", fails)
    answer = node.get()

    assert answer.status == 500
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert capfd.readouterr().err.count("ZeroDivisionError") == 1


def test_a_page_of_a_listed_site_sees_frames_and_why_it_was_refused(tmp_path: Path) -> None:
    origin = "https://viewer.example"
    sections = {"dicomweb": {"cors_origins": [origin]}}
    with serving(tmp_path, **sections) as client, on_socket(client) as server:
        store(client, ct_slice(1, 2, EDGE))
        for path in (FRAME, FRAME, FRAME.replace("frames/1", "frames/2")):
            answer, _ = ask(server, path, Accept=OCTETS, Origin=origin)
            assert answer.headers["Access-Control-Allow-Origin"] == origin
        refused, _ = ask(server, FRAME, Accept=OCTETS, Origin=origin, Host="elsewhere.example")

    assert refused.status == 421
    assert refused.headers["Access-Control-Allow-Origin"] == origin
