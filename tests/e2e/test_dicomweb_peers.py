"""Two nodes that talk DICOMweb, through TLS and with a token: a study goes, and comes back."""

from __future__ import annotations

import json
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from lfscp.config.passwords import new_token
from lfscp.dicom.part10 import part10_header
from tests.e2e.test_web_node import page_of, send
from tests.support import haproxy
from tests.support.archive_datasets import CT_IMAGE, EXPLICIT, encoded
from tests.support.certificates import Authority
from tests.support.ci import in_ci
from tests.support.dcmtk import free_port
from tests.support.node_process import NodeProcess, StartNode

STUDY = "1.2.3"
WAIT_S = 60
TOKEN, HASHED = new_token()


@dataclass
class Pair:
    """Node A, whose jobs ask node B through a proxy with TLS."""

    a: NodeProcess
    b: NodeProcess

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        """The JSON of an answer of A's API."""
        request = urllib.request.Request(page_of(self.a).rstrip("/") + path, method=method)  # noqa: S310
        if body is not None:
            request.data = json.dumps(body).encode()
            request.add_header("Content-Type", "application/json")
        with urllib.request.urlopen(request, timeout=WAIT_S) as answer:  # noqa: S310 - our own node
            content = answer.read()
        return json.loads(content) if content else None

    def at_b(self, path: str) -> Any:
        """The JSON of an answer of B."""
        request = urllib.request.Request(page_of(self.b).rstrip("/") + path)  # noqa: S310
        request.add_header("Authorization", f"Bearer {TOKEN}")
        with urllib.request.urlopen(request, timeout=WAIT_S) as answer:  # noqa: S310 - our own node
            return json.loads(answer.read())

    def upload(self, count: int, pixels: bytes) -> None:
        """Put a study into A."""
        for number in range(1, count + 1):
            data = encoded(number, pixels=pixels)
            file = part10_header(CT_IMAGE, f"1.2.3.1.{number}", EXPLICIT) + data
            send(page_of(self.a).rstrip("/") + "/api/instances", file)

    def ended(self, job: Any) -> Any:
        """A job once it has ended."""
        until = time.monotonic() + WAIT_S
        while job["state"] not in ("done", "failed", "cancelled"):
            assert time.monotonic() < until, job
            time.sleep(0.02)
            job = self.ask("GET", f"/api/jobs/{job['id']}")
        return job


def objects_of(node: NodeProcess) -> list[bytes]:
    """The datasets that a node has stored, without the heads of their files."""
    files = [file for file in node.objects.rglob("*") if file.is_file()]
    return sorted(file.read_bytes().partition(EXPLICIT.encode())[2] for file in files)


@pytest.fixture
def pair(start_node: StartNode, tmp_path: Path) -> Iterator[Pair]:
    if haproxy.program() is None:
        (pytest.fail if in_ci() else pytest.skip)("install the package haproxy")
    with two_nodes(start_node, tmp_path) as nodes:
        yield nodes


@contextmanager
def two_nodes(start_node: StartNode, folder: Path) -> Iterator[Pair]:
    authority = Authority(folder / "certificates")
    web = f'[web]\nport = 0\ntokens = ["a:work:{HASHED}"]\ntrusted_proxies = ["127.0.0.1"]\n'
    b = start_node("b", configuration=web, flags=["--http-port", "0"])
    page = int(page_of(b).rstrip("/").rpartition(":")[2])
    port = free_port()
    token = folder / "token"
    token.write_text(TOKEN)
    token.chmod(0o600)
    peer = (
        f'[peers.CLOUD]\nurl = "https://localhost:{port}/dicom-web"\ntoken_file = "{token}"\n'
        f'tls_ca_file = "{authority.file}"\n'
    )
    with haproxy.with_tls(folder, port, page, authority.issue("page")):
        yield Pair(start_node("a", configuration=peer, flags=["--http-port", "0"]), b)


def test_a_study_goes_to_a_dicomweb_server_and_comes_back(pair: Pair) -> None:
    pair.upload(5, b"\1\2" * 5000)
    first = objects_of(pair.a)
    assert len(first) == 5
    assert all(len(each) > 10_000 for each in first)
    assert pair.ended(pair.ask("POST", "/api/echo", {"peer": "CLOUD"}))["state"] == "done"
    sent = pair.ended(pair.ask("POST", "/api/send", {"peer": "CLOUD", "studies": [STUDY]}))
    assert (sent["state"], sent["done"], sent["failed"]) == ("done", 5, 0)
    assert objects_of(pair.b) == first
    pair.ask("DELETE", f"/api/studies/{STUDY}")
    assert pair.ask("GET", "/api/statistics")["instances"] == 0
    keys = {"PatientName": "doe*", "StudyInstanceUID": ""}
    found = pair.ended(pair.ask("POST", "/api/find", {"peer": "CLOUD", "keys": keys}))
    assert [match["StudyInstanceUID"] for match in found["result"]] == [STUDY]
    keys = {"StudyInstanceUID": STUDY}
    came = pair.ended(pair.ask("POST", "/api/retrieve", {"peer": "CLOUD", "keys": keys}))
    assert (came["state"], came["done"], came["failed"]) == ("done", 5, 0)
    assert objects_of(pair.a) == first
    assert TOKEN not in pair.a.log + pair.b.log
    assert not [file for file in pair.a.data_dir.rglob("*") if holds(file, TOKEN.encode())]


def holds(file: Path, text: bytes) -> bool:
    return file.is_file() and text in file.read_bytes()


def test_a_send_to_a_dicomweb_server_survives_a_kill(pair: Pair) -> None:
    count = 150
    pair.upload(count, b"\1\2" * 20_000)
    job = pair.ask("POST", "/api/send", {"peer": "CLOUD", "studies": [STUDY]})
    until = time.monotonic() + WAIT_S
    while not pair.at_b("/api/statistics")["instances"]:
        assert time.monotonic() < until
    pair.a.kill()
    already = len(pair.a.lines)
    pair.a.start()
    pair.a.wait_for("page", since=already)
    pair.a.wait_for("job interrupted", since=already)
    pair.a.wait_for("job ended", since=already, state="done", done=count)
    assert pair.at_b("/api/statistics")["instances"] == count
    assert objects_of(pair.b) == objects_of(pair.a)
    assert pair.a.events("job ended", job=job["id"])
