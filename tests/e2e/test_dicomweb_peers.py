"""Two nodes that talk DICOMweb, through TLS and with a token: a study goes, and comes back."""

from __future__ import annotations

import json
import re
import time
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from lfscp.config.passwords import new_token
from lfscp.dicom.part10.file_meta import part10_header, read_part10
from tests.e2e.test_web_node import page_of, send
from tests.support import haproxy
from tests.support.archive_datasets import CT_IMAGE, EXPLICIT, encoded
from tests.support.certificates import Authority, Certificate
from tests.support.ci import in_ci
from tests.support.dcmtk import free_port
from tests.support.halting_proxy import halting_proxy
from tests.support.node_process import NodeProcess, StartNode

STUDY = "1.2.3"
WAIT_S = 60
TOKEN, HASHED = new_token()


@dataclass
class Pair:
    """Node A, whose jobs ask node B through a proxy with TLS."""

    a: NodeProcess
    b: NodeProcess
    port: int
    certificate: Certificate
    configuration: str  # of A, with the token

    @property
    def page_of_b(self) -> int:
        """The port of B's page."""
        return int(page_of(self.b).rstrip("/").rpartition(":")[2])

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        """The JSON of an answer of A's API."""
        request = urllib.request.Request(page_of(self.a).rstrip("/") + path, method=method)  # noqa: S310
        if body is not None:
            request.data = json.dumps(body).encode()
            request.add_header("Content-Type", "application/json")
        with urllib.request.urlopen(request, timeout=WAIT_S) as answer:  # noqa: S310 - our own node
            content = answer.read()
        return json.loads(content) if content else None

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


def objects_of(node: NodeProcess) -> dict[str, bytes]:
    """The datasets that a node has stored, by UID, without the heads of their files."""
    found = {}
    for file in node.objects.rglob("*.dcm"):  # not those that are just written
        content = file.read_bytes()
        head = read_part10(content)
        found[head.sop_instance_uid] = content[head.dataset_offset :]
    return found


@pytest.fixture
def pair(start_node: StartNode, tmp_path: Path) -> Pair:
    """The two nodes; a test puts a proxy at `port` between them."""
    if haproxy.program() is None:
        (pytest.fail if in_ci() else pytest.skip)("install the package haproxy")
    authority = Authority(tmp_path / "certificates")
    port = free_port()
    token = tmp_path / "token"
    token.write_text(TOKEN)
    token.chmod(0o600)
    peer = (
        f'[peers.CLOUD]\nurl = "https://localhost:{port}/dicom-web"\ntoken_file = "{token}"\n'
        f'tls_ca_file = "{authority.file}"\n'
    )
    web = f'[web]\nport = 0\ntokens = ["a:work:{HASHED}"]\ntrusted_proxies = ["127.0.0.1"]\n'
    a = start_node("a", configuration=peer, flags=["--http-port", "0", "--workers", "1"])
    b = start_node("b", configuration=web, flags=["--http-port", "0"])
    return Pair(a, b, port, authority.issue("page"), peer)


def test_a_study_goes_to_a_dicomweb_server_and_comes_back(pair: Pair, tmp_path: Path) -> None:
    pair.upload(5, b"\1\2" * 5000)
    first = objects_of(pair.a)
    assert len(first) == 5
    assert all(len(each) > 10_000 for each in first.values())
    with haproxy.with_tls(tmp_path, pair.port, pair.page_of_b, pair.certificate):
        pair.a.reload(re.sub("token_file = .*", 'token = "wrong"', pair.configuration))
        refused = pair.ended(pair.ask("POST", "/api/echo", {"peer": "CLOUD"}))
        assert (refused["state"], "HTTP 401" in refused["reason"]) == ("failed", True)
        nothing = pair.ended(pair.ask("POST", "/api/send", {"peer": "CLOUD", "studies": ["1.9"]}))
        why = "there is no DICOM object to send"
        assert nothing["reason"] == f"{why}: 1.9: there is no such study in the archive"
        pair.a.wait_for("job ended", kind="send", state="failed", reason=why)
        pair.a.reload(pair.configuration)
        assert pair.ended(pair.ask("POST", "/api/echo", {"peer": "CLOUD"}))["state"] == "done"
        sent = pair.ended(pair.ask("POST", "/api/send", {"peer": "CLOUD", "studies": [STUDY]}))
        assert (sent["state"], sent["done"], sent["failed"]) == ("done", 5, 0)
        assert objects_of(pair.b) == first
        pair.ask("DELETE", f"/api/studies/{STUDY}")
        assert objects_of(pair.a) == {}
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


def test_a_send_to_a_dicomweb_server_survives_a_kill(pair: Pair, tmp_path: Path) -> None:
    count = 20
    pair.upload(count, b"\1\2" * 20_000)
    with (
        halting_proxy(pair.page_of_b, halt_after=400_000) as halting,
        haproxy.with_tls(tmp_path, pair.port, halting.port, pair.certificate),
    ):
        pair.ask("POST", "/api/send", {"peer": "CLOUD", "studies": [STUDY]})
        assert halting.halted.wait(WAIT_S)
        pair.a.kill()
    assert len(objects_of(pair.b)) < count
    with haproxy.with_tls(tmp_path, pair.port, pair.page_of_b, pair.certificate):
        already = len(pair.a.lines)
        pair.a.start()
        pair.a.wait_for("job interrupted", since=already)
        pair.a.wait_for("job ended", since=already, state="done", done=count, failed=0)
    assert objects_of(pair.b) == objects_of(pair.a)
    assert len(objects_of(pair.b)) == count
