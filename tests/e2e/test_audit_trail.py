"""The audit trail of a real node: every deed with its patient there, and in the log no patient."""

from __future__ import annotations

import json
import time
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.test_web_node import ask, page_of
from tests.support.node_process import NodeProcess, StartNode, run_lfscp
from tests.support.sample_objects import CT, made

STUDY = "1.2.826.0.1.3680043.8.498.31"
NAME, PATIENT_ID = "Verysecret^Jane", "HIDDEN-ID-0815"
SECRETS = ("Verysecret", "HIDDEN-ID")


def records(node: NodeProcess, code: str) -> list[dict[str, Any]]:
    """The messages of one event, by the code of its EventID."""
    lines = (node.data_dir / "audit.log").read_text().splitlines()
    return [
        each
        for each in map(json.loads, lines)
        if each["EventIdentification"]["EventID"]["csd-code"] == code
    ]


def objects_of(record: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """ParticipantObjectIdentification by the object's identifier."""
    return {each["ParticipantObjectID"]: each for each in record["ParticipantObjectIdentification"]}


def users_of(record: dict[str, Any]) -> list[str]:
    return [each["UserID"] for each in record["ActiveParticipant"]]


def drive(dcmtk: Any, node: NodeProcess, folder: Path) -> None:
    """Stores, a bad object, finds, a get, moves, a peer that may not: all for one patient."""
    secret = {"PatientName": NAME, "PatientID": PATIENT_ID}
    files = [made(folder / "sent", StudyInstanceUID=STUDY, **secret) for _ in range(3)]
    dcmtk.done(dcmtk.store(node.port, *files))
    dcmtk.store(node.port, made(folder / "sent", StudyInstanceUID=None, **secret))
    dcmtk.find(node.port, "STUDY", {"PatientName": NAME, "PatientID": PATIENT_ID})
    dcmtk.find_raw(node.port, "STUDY", {"PatientName": NAME, "StudyDate": PATIENT_ID})
    dcmtk.get(node.port, "PATIENT", {"PatientID": PATIENT_ID}, folder / "got", model="patient")
    dcmtk.move(node.port, "PATIENT", {"PatientID": PATIENT_ID}, to="DOWN", model="patient")
    dcmtk.move(node.port, "STUDY", {"StudyInstanceUID": PATIENT_ID}, to="NOWHERE")
    dcmtk.echo(node.port, "-aet", "FORBIDDEN")


PEERS = """
[peers.DOWN]
host = "127.0.0.1"
port = 9
[peers.FORBIDDEN]
host = "127.0.0.1"
port = 9
may = ["destination"]
"""


@pytest.mark.parametrize("workers", [1, 2])
def test_patients_are_in_the_audit_trail_and_only_there(
    dcmtk: Any, start_node: StartNode, tmp_path: Path, workers: int
) -> None:
    node = start_node(
        flags=["--http-port", "0", "--workers", workers, "--log-level", "debug"],
        configuration=PEERS,
    )
    url = page_of(node)
    drive(dcmtk, node, tmp_path)
    assert ask(f"{url}readyz")[0] == 200
    assert delete(node, f"{url}api/studies/{STUDY}") == 200
    assert node.stop() == 0

    start, stop = records(node, "110100")
    assert start["EventIdentification"]["EventTypeCode"][0]["csd-code"] == "110120"
    assert stop["EventIdentification"]["EventTypeCode"][0]["csd-code"] == "110121"

    stored, refused, got, moved = sorted(records(node, "110104"), key=when)
    assert users_of(stored) == ["STORESCU", "LFSCP"]
    assert objects_of(stored)[STUDY]["ParticipantObjectDescription"] == {
        "SOPClass": [{"UID": CT, "NumberOfInstances": 3}]
    }
    assert objects_of(stored)[PATIENT_ID]["ParticipantObjectName"] == NAME
    assert refused["EventIdentification"]["EventOutcomeDescription"] == "1 answered 0xC000"
    assert users_of(got) == ["LFSCP", "GETSCU"]
    assert objects_of(got).keys() == {STUDY, PATIENT_ID}
    assert users_of(moved) == ["LFSCP", "DOWN", "MOVESCU"]
    assert moved["EventIdentification"]["EventOutcomeIndicator"] == 4

    asked = [objects_of(each) for each in records(node, "110112")]
    keys = [detail_of(each, "keys") for objects in asked for each in objects.values()]
    assert len(keys) == 2
    assert all(f"PatientName={NAME}" in each for each in keys)

    (alert,) = records(node, "110113")
    assert users_of(alert)[0] == "FORBIDDEN"
    assert len(records(node, "110108")) == 2 * 8  # each association came and went

    (deleted,) = records(node, "110105")
    assert users_of(deleted) == ["page"]
    assert objects_of(deleted).keys() == {STUDY, PATIENT_ID}

    for secret in SECRETS:
        assert secret not in node.log


def when(record: dict[str, Any]) -> str:
    return str(record["EventIdentification"]["EventDateTime"])


def detail_of(part: dict[str, Any], name: str) -> str:
    details = {each["type"]: each["value"] for each in part["ParticipantObjectDetail"]}
    return str(details[name])


def delete(node: NodeProcess, url: str) -> int:
    """DELETE; the answer's status."""
    request = urllib.request.Request(url, method="DELETE")  # noqa: S310 - our own node
    with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310 - likewise
        return int(answer.status)


def test_the_log_names_patients_when_asked_to(
    dcmtk: Any, start_node: StartNode, tmp_path: Path
) -> None:
    node = start_node(
        configuration="[logging]\npatient_identifiers = true\n[audit]\nenabled = false\n" + PEERS
    )
    drive(dcmtk, node, tmp_path)
    assert node.stop() == 0
    assert node.events("C-STORE", status="0x0000")[0]["patient_id"] == PATIENT_ID
    assert f"PatientID={PATIENT_ID}" in node.events("C-FIND")[0]["keys"]
    assert not (node.data_dir / "audit.log").exists()


def test_a_peer_that_is_not_known_is_a_security_alert(dcmtk: Any, start_node: StartNode) -> None:
    node = start_node(configuration="[server]\nrequire_known_peers = true\n")
    assert dcmtk.echo(node.port, "-aet", "STRANGER").code != 0
    assert node.stop() == 0
    (alert,) = records(node, "110113")
    event = alert["EventIdentification"]
    assert event["EventTypeCode"][0]["csd-code"] == "110126"
    assert users_of(alert) == ["STRANGER", "LFSCP"]
    assert "calling AE title" in event["EventOutcomeDescription"]


def test_a_node_that_must_stop_without_its_trail_serves_again_with_it(
    dcmtk: Any, start_node: StartNode, tmp_path: Path
) -> None:
    folder = tmp_path / "trail"
    folder.mkdir()
    configuration = f'[audit]\nfile = "{folder}/audit.log"\nwhen_failing = "stop"\n'
    node = start_node(flags=["--http-port", "0"], configuration=configuration, errors_expected=True)
    url = page_of(node)
    assert dcmtk.done(dcmtk.echo(node.port))
    node.wait_for("C-ECHO")
    folder.rename(tmp_path / "away")  # as a mount that is lost
    until = time.monotonic() + 60
    while dcmtk.echo(node.port).code == 0:  # until it has looked for its file
        assert time.monotonic() < until
    node.wait_for("the audit trail cannot be written")
    status, body = ask(f"{url}readyz")
    assert (status, "audit trail" in json.loads(body)["detail"]) == (503, True)
    (tmp_path / "away").rename(folder)
    while dcmtk.echo(node.port).code != 0:  # it looks again once a second
        assert time.monotonic() < until
    while ask(f"{url}readyz")[0] != 200:  # its answer is good for a second
        assert time.monotonic() < until
    node.wait_for("the audit trail is written again")


def test_a_file_that_cannot_be_opened_stops_the_start(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    done = run_lfscp(
        *("serve", "--port", "0", "--data-dir", tmp_path / "data", "--no-http"),
        env={"LFSCP_AUDIT__FILE": str(tmp_path / "file" / "audit.log")},
    )
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith(f"lfscp: audit.file: cannot open {tmp_path}")


def test_whoever_floods_the_trail_is_counted_and_a_long_key_is_cut(
    dcmtk: Any, start_node: StartNode
) -> None:
    node = start_node(
        configuration="[server]\nrequire_known_peers = true\n[audit]\nsame_per_minute = 3\n" + PEERS
    )
    for number in range(8):
        assert dcmtk.echo(node.port, "-aet", f"STRANGER{number}").code != 0
    keys = {"PatientName": NAME, "StudyDescription": "A" * 100_000}
    dcmtk.find_raw(node.port, "STUDY", keys, options=("-aet", "DOWN"))
    assert node.stop() == 0
    *alerts, more = records(node, "110113")
    assert len(alerts) == 3
    assert "5 more of these within" in more["EventIdentification"]["EventOutcomeDescription"]
    (asked,) = records(node, "110112")
    assert len(json.dumps(asked)) < 32 * 1024
    (query,) = objects_of(asked).values()
    assert "100" in detail_of(query, "query bytes")
    assert NAME in detail_of(query, "keys")
