"""A server that stops within a STOW-RS request: what is stored is noted, and nothing is left."""

from __future__ import annotations

import json
import socket
from pathlib import Path

import pytest

from lfscp.observe import audit
from lfscp.web import server as web_server
from tests.support.raw_http import dripping
from tests.support.retrieved_objects import as_file
from tests.support.web_app import serving
from tests.support.web_objects import CT_STUDY, ct_slice
from tests.support.web_socket import WAIT_S, on_socket

HEAD = """POST /dicom-web/studies HTTP/1.1\r
Host: 127.0.0.1\r
Content-Type: multipart/related; type="application/dicom"; boundary=b\r
%s\r
\r
"""
PART = b"--b\r\nContent-Type: application/dicom\r\n\r\n"
STORED = "110104"  # DICOM Instances Transferred


@pytest.mark.parametrize(
    ("length", "piece"),
    [
        ("Content-Length: 1000000000", bytes(1000)),
        ("Transfer-Encoding: chunked", b"3e8\r\n" + bytes(1000) + b"\r\n"),
    ],
)
def test_what_is_stored_is_noted_and_what_is_not_leaves_nothing(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    length: str,
    piece: bytes,
) -> None:
    monkeypatch.setattr(web_server, "STOP_S", 1)
    whole = PART + as_file(ct_slice(1, 2, 512)) + b"\r\n" + PART + bytes(600_000)
    if "chunked" in length:
        whole = b"%x\r\n" % len(whole) + whole + b"\r\n"
    audit.start(tmp_path / "audit.log", "LFSCP")
    try:
        with serving(tmp_path / "data") as client:
            incoming = client.app.state.web.archive.incoming_dir  # type: ignore[attr-defined]
            with on_socket(client) as server, socket.create_connection(server.address) as sock:
                sock.settimeout(WAIT_S)
                sock.sendall((HEAD % length).encode() + whole)
                with dripping([sock], piece, every_s=0.02):
                    while client.get(f"/api/studies/{CT_STUDY}").status_code != 200:
                        pass
                    server.stop()
            assert list(incoming.iterdir()) == []
    finally:
        audit.stop()

    records = map(json.loads, (tmp_path / "audit.log").read_text().splitlines())
    events = [each["EventIdentification"]["EventID"]["csd-code"] for each in records]
    assert events.count(STORED) == 1
    assert [each for each in caplog.records if each.exc_info] == [], "no traceback"
