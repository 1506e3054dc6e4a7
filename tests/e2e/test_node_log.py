"""The log of a real node: whole lines, one per event, with all that is known, and no patient."""

from __future__ import annotations

import json
import re
import socket
from pathlib import Path
from typing import Any

import pytest

from lfscp.config import Settings
from lfscp.config.current import CurrentSettings
from lfscp.observe.log_budget import LogBudget, RequestLines
from lfscp.services import service_log, verification
from tests.support.dicom_peer import (
    IMPLICIT,
    NO_DATA_SET,
    RELEASE,
    VERIFICATION,
    Peer,
    associate_rq,
    command,
    echo_rq,
    item,
    message,
    pdu,
    store_rq,
    until,
    us,
)
from tests.support.node_process import NodeProcess, StartNode
from tests.support.sample_objects import CT, made
from tests.support.serving import serving

STUDY = "1.2.826.0.1.3680043.8.498.14"
NAME, PATIENT_ID = "Secretname^Jane", "SECRET-ID-4711"
ASSOCIATION = {"association", "calling_ae_title", "called_ae_title", "peer"}


def perform_everything(dcmtk: Any, node: NodeProcess, folder: Path) -> Path:
    """One of each service, and the usual failures, for one patient."""
    secret = {"PatientName": NAME, "PatientID": PATIENT_ID}
    file = made(folder / "sent", StudyInstanceUID=STUDY, **secret)
    dcmtk.echo(node.port)
    dcmtk.store(node.port, file)
    dcmtk.store(node.port, made(folder / "sent", StudyInstanceUID=None, **secret))
    dcmtk.find(node.port, "STUDY", {"PatientName": NAME, "PatientID": PATIENT_ID})
    dcmtk.find_raw(node.port, "PATIENT", {"PatientID": PATIENT_ID}, model="study")
    dcmtk.find_raw(node.port, "STUDY", {"PatientName": NAME, "StudyDate": f"{PATIENT_ID}"})
    dcmtk.move(node.port, "PATIENT", {"PatientID": PATIENT_ID}, to="NOWHERE", model="patient")
    dcmtk.get(node.port, "PATIENT", {"PatientID": PATIENT_ID}, folder / "got", model="patient")
    dcmtk.move(node.port, "STUDY", {"StudyInstanceUID": f"{PATIENT_ID}"}, to="NOWHERE")
    return file


def test_each_service_is_one_line_of_json_with_its_fields(
    dcmtk: Any, node: NodeProcess, tmp_path: Path
) -> None:
    file = perform_everything(dcmtk, node, tmp_path)
    assert node.stop() == 0
    for line in node.lines:
        parsed = json.loads(line)
        assert {"time", "level", "logger", "event"} <= parsed.keys()
    (echoed,) = node.events("C-ECHO")
    stored, refused = node.events("C-STORE")
    found = node.events("C-FIND")[0]
    (got,) = node.events("C-GET")
    for line in (echoed, stored, refused, found, got):
        assert ASSOCIATION | {"service", "status", "duration_ms"} <= line.keys()
    assert stored["calling_ae_title"] == "STORESCU"
    assert stored["called_ae_title"] == "ANY-SCP"
    assert stored["peer"].startswith("127.0.0.1:")
    assert stored["sop_class_uid"] == CT
    assert stored["sop_instance_uid"] == file.stem
    assert stored["status"] == "0x0000"
    assert stored["bytes"] > 512
    assert refused["status"] == "0xC000"
    assert refused["level"] == "warning"
    assert "0020,000D" in refused["reason"].upper() or "Study" in refused["reason"]
    assert (found["status"], found["matches"]) == ("0x0000", 1)
    assert (got["completed"], got["failed"]) == (1, 0)
    assert len({line["association"] for line in (echoed, stored, refused, found, got)}) == 5


@pytest.mark.parametrize("level", ["info", "debug"])
def test_the_log_names_no_patient_at_any_level(
    dcmtk: Any, start_node: StartNode, tmp_path: Path, level: str
) -> None:
    node = start_node(flags=["--log-level", level])
    perform_everything(dcmtk, node, tmp_path)
    assert node.stop() == 0
    assert "C-STORE" in node.log
    for secret in ("Secretname", "SECRET-ID"):
        assert secret not in node.log


def test_no_line_has_a_control_character(dcmtk: Any, node: NodeProcess) -> None:
    """Titles and UIDs come from peers; an escape sequence in them must not reach a terminal."""
    nasty = b"\x1b[2J\nFAKE\x00\x7f"
    request = associate_request(nasty.ljust(16), b"LFSCP".ljust(16))
    with socket.create_connection(("127.0.0.1", node.port)) as connection:
        connection.sendall(request)
        connection.settimeout(30)
        connection.recv(4096)
    assert dcmtk.echo(node.port, "-aet", "A\tB").code != 0
    node.wait_for("association ended", count=2)
    assert node.stop() == 0
    for line in node.lines:
        assert re.search(r"[\x00-\x1f\x7f-\x9f]", line) is None
        json.loads(line)


def associate_request(calling: bytes, called: bytes) -> bytes:
    """An A-ASSOCIATE-RQ for Verification (PS3.8 section 9.3.2), with the titles as they are."""

    def item(kind: int, content: bytes) -> bytes:
        return bytes((kind, 0)) + len(content).to_bytes(2, "big") + content

    context = bytes((1, 0, 0, 0)) + item(0x30, b"1.2.840.10008.1.1")
    context += item(0x40, b"1.2.840.10008.1.2")
    user = item(0x51, (16384).to_bytes(4, "big")) + item(0x52, b"1.2.3.4")
    body = b"\x00\x01\x00\x00" + called + calling + bytes(32)
    body += item(0x10, b"1.2.840.10008.3.1.1.1") + item(0x20, context) + item(0x50, user)
    return b"\x01\x00" + len(body).to_bytes(4, "big") + body


def test_debug_shows_the_pool(dcmtk: Any, start_node: StartNode) -> None:
    node = start_node(flags=["--log-level", "debug"])
    dcmtk.echo(node.port)
    assert node.stop() == 0
    messages = [str(line["event"]) for line in node.events() if line["logger"] == "lfscp.pool"]
    for said in ("JOIN", "New Leader", "promote", "LEFT"):
        assert any(said in message for message in messages), said
    assert any(re.search(r"LF_ThreadPool-\d+\[leader:", message) for message in messages)


def test_a_client_that_aborts_is_one_line(dcmtk: Any, node: NodeProcess) -> None:
    dcmtk.echo(node.port, "--abort")
    line = node.wait_for("association ended")
    assert line["reason"] == "aborted by the peer"
    assert line.keys() >= ASSOCIATION


MR = "1.2.840.10008.5.1.4.1.1.4"
AN_UNKNOWN_OPERATION = command(us(0x0100, 0x7777), us(0x0110, 1), us(0x0800, NO_DATA_SET))
# What is sent, with its answers; words of the one line about it.
FAULTS = [
    ([associate_rq(version=2)], "protocol version not supported"),
    ([associate_rq(calling="")], "calling AE title not recognised: it is blank"),
    ([associate_rq([(2, VERIFICATION, (IMPLICIT,))])], "presentation context ID 2 is even"),
    ([associate_rq(max_length=7)], "a Maximum Length of 7 bytes leaves no room"),
    ([associate_rq(user_items=item(0x58, b"\2"))], "user identity not verified: a field is longer"),
    ([pdu(1, b"abcd")], "A-ASSOCIATE-RQ cannot be decoded: shorter than its fixed fields"),
    ([associate_rq(), pdu(9, b"")], "unknown PDU type 0x09"),
    ([associate_rq(), message(77, echo_rq())], "presentation context 77 was not accepted"),
    ([associate_rq(), message(1, AN_UNKNOWN_OPERATION)], "unknown Command Field 0x7777"),
    ([associate_rq(), message(3, store_rq(sop_class=MR), b""), RELEASE], f"SOP class '{MR}'"),
    ([associate_rq(), message(3, echo_rq()), RELEASE], f"SOP class '{VERIFICATION}'"),
    ([associate_rq(), message(3, store_rq(instance=""), b""), RELEASE], "UID missing or invalid"),
]


def test_each_fault_of_a_peer_is_one_line_with_its_reason(node: NodeProcess) -> None:
    for said, _ in FAULTS:
        with Peer(("127.0.0.1", node.port)) as peer:
            for each in said:
                peer.send(each)
                peer.pdu()
    assert node.stop() == 0
    complaints = [
        f"{line['event']} {line.get('reason', '')}"
        for line in map(json.loads, node.lines)
        if line["level"] in ("warning", "error")
    ]
    for _, words in FAULTS:
        (line,) = [each for each in complaints if words in each]
        complaints.remove(line)
        assert not re.search(r"\w(Error|Exception)\b|Traceback", line), "no exception's class"
    assert complaints == []


def test_a_flood_of_requests_is_no_flood_of_lines(
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    lines = RequestLines(LogBudget(of_each=3, span_s=3600))
    monkeypatch.setattr(service_log, "REQUESTS", lines)
    current = CurrentSettings(Settings())
    with serving(*verification.handlers(current)) as server:
        with Peer(server.server_address) as peer:
            peer.associate()
            for number in range(10):
                peer.send(message(1, echo_rq(number)))
                assert peer.status() == 0x0000
            peer.release()
        until(lambda: not server.active_associations)
    assert capfd.readouterr().err.count("service=C-ECHO") == 3
    lines.say_left_out()
    assert "7 of 127.0.0.1" in caplog.text
