"""A node corrects studies: what peers find, kill -9 in the middle, and the audit trail."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import pytest
from pydicom import dcmread

from tests.e2e.test_coercion_on_arrival import ask, ct
from tests.support.node_process import NodeProcess, StartNode, run_lfscp
from tests.support.sample_objects import of_sender

OBJECTS = 30


def asked(node: NodeProcess, path: str, body: Any = None, *, since: int = 0) -> Any:
    url = node.wait_for("page", since=since)["url"]
    content = None if body is None else json.dumps(body).encode()
    return json.loads(ask(url + path, content, kind="application/json"))


def ended(node: NodeProcess, job: str, *, since: int = 0) -> dict[str, Any]:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        found: dict[str, Any] = asked(node, f"api/jobs/{job}", since=since)
        if found["state"] in ("done", "failed", "cancelled"):
            return found
        time.sleep(0.05)
    raise AssertionError("the job did not end")


def post(node: NodeProcess, path: str, since: int = 0) -> Any:
    url = node.wait_for("page", since=since)["url"]
    return json.loads(ask(url + path, b"", method="POST"))


def names(node: NodeProcess) -> set[str]:
    """The names in the objects that the node gives out by its index."""
    return {str(dcmread(file).PatientName) for file in node.objects.glob("*/*/*.dcm")}


def filled(dcmtk: Any, node: NodeProcess, folder: Path, count: int) -> None:
    files = [ct(folder / f"{number}.dcm", number, size=64 << 10) for number in range(count)]
    dcmtk.done(dcmtk.store(node.port, *files))


@pytest.mark.parametrize("database", ["sqlite", "postgresql"])
def test_findscu_finds_what_is_right_before_and_after_the_correction_is_undone(
    dcmtk: Any,
    start_node: StartNode,
    tmp_path: Path,
    database: str,
    request: pytest.FixtureRequest,
) -> None:
    index = ""
    if database == "postgresql":
        index = f'index.url = "{request.getfixturevalue("postgresql_url")}"\n'
        index += f'objects.url = "file://{tmp_path}/objects"\n'
    node = start_node(configuration=index, flags=["--http-port", "0"])
    filled(dcmtk, node, tmp_path / "files", 3)
    keys = {"PatientID": "", "PatientName": "", "StudyInstanceUID": "1.2.3"}
    changes = {"PatientID": "P2", "PatientName": "Roe^Mary", "AccessionNumber": "A9"}
    job = asked(node, "api/studies/1.2.3/correct", {"changes": changes})["id"]
    assert ended(node, job)["state"] == "done"
    (match,) = dcmtk.find(node.port, "STUDY", keys)
    assert (match.PatientID, match.PatientName) == ("P2", "Roe^Mary")
    assert not dcmtk.find(node.port, "STUDY", {"PatientID": "P1", "StudyInstanceUID": ""})
    uid = {"StudyInstanceUID": "1.2.3"}
    dcmtk.done(dcmtk.get(node.port, "STUDY", uid, tmp_path / "got"))
    got = [dcmread(file) for file in (tmp_path / "got").iterdir()]
    assert {str(each.PatientName) for each in got} == {"Roe^Mary"}
    assert {each.AccessionNumber for each in got} == {"A9"}
    assert post(node, f"api/corrections/{job}/undo")["state"] == "undone"
    (match,) = dcmtk.find(node.port, "STUDY", keys)
    assert (match.PatientID, match.PatientName) == ("P1", "Doe^Jane")


def test_kill_9_in_the_middle_loses_nothing_and_the_correction_goes_on(
    dcmtk: Any, start_node: StartNode, tmp_path: Path
) -> None:
    node = start_node(flags=["--http-port", "0"])
    filled(dcmtk, node, tmp_path / "files", OBJECTS)
    for attempt in range(3):
        since = len(node.lines) if attempt else 0
        if attempt:
            node.start()
        name = f"Name^Number{attempt}"
        changes = {"changes": {"PatientName": name}}
        job = asked(node, "api/studies/1.2.3/correct", changes, since=since)["id"]
        incoming = node.objects / ".incoming"
        deadline = time.monotonic() + 30
        while not any(incoming.iterdir()) and time.monotonic() < deadline:
            time.sleep(0.001)
        time.sleep(0.01 * attempt)
        node.kill()
        since = len(node.lines)
        node.start()
        assert ended(node, job, since=since)["state"] == "done"
        files = list(node.objects.glob("*/*/*.dcm"))
        assert len(files) == 2 * OBJECTS
        assert not [path for path in incoming.iterdir() if path.is_file()]
        row = asked(node, "api/studies/1.2.3", since=since)
        assert (row["patient_name"], row["number_of_instances"]) == (name, OBJECTS)
        confirmed = post(node, f"api/corrections/{job}/confirm", since)
        assert confirmed["state"] == "confirmed"
        assert names(node) == {name}
        node.stop()
        done = run_lfscp("check", "--data-dir", node.data_dir)
        assert done.returncode == 0, done.stdout


def test_the_audit_trail_says_who_corrected_what(
    dcmtk: Any, start_node: StartNode, tmp_path: Path
) -> None:
    trail = tmp_path / "audit.jsonl"
    audit = f'[audit]\nfile = "{trail}"\n'
    node = start_node(configuration=audit, flags=["--http-port", "0"])
    filled(dcmtk, node, tmp_path / "files", 1)
    changes = {"changes": {"PatientName": "Roe^Mary"}}
    job = asked(node, "api/studies/1.2.3/correct", changes)["id"]
    assert ended(node, job)["state"] == "done"
    post(node, f"api/corrections/{job}/confirm")
    node.stop()
    text = trail.read_text()
    assert job in text
    assert "corrected" in text
    assert "correction confirmed" in text
    assert "Roe^Mary" not in node.log  # which names no patient


def test_the_command_corrects_beside_a_node_and_its_peers_see_it(
    start_node: StartNode, tmp_path: Path
) -> None:
    node = start_node(configuration="", flags=["--workers", "2"])
    for number, patient in enumerate(("P-1", "P-2"), 1):
        of_sender(tmp_path / patient, number, 3, study=f"1.2.{number}", patient=patient)
    there = f"LFSCP@127.0.0.1:{node.port}"
    assert run_lfscp("send", there, tmp_path / "P-1", tmp_path / "P-2").returncode == 0
    at = ("--config", tmp_path / "node/lfscp.toml", "--data-dir", node.data_dir)

    def of(patient: str) -> str:
        """How many studies a patient has, as a peer is told."""
        asked = ("-k", f"PatientID={patient}", "-k", "StudyInstanceUID", "-l", "STUDY")
        return run_lfscp("find", there, *asked).stdout.splitlines()[-1]

    shown = run_lfscp("correct", "study", "1.2.1", "PatientID=P-9", *at, "--dry-run").stdout
    assert shown == "PatientID: 'P-1' -> 'P-9'\n1 study would be corrected\n"
    assert (of("P-1"), of("P-9")) == ("1 match", "0 matches")

    done = run_lfscp("correct", "study", "1.2.1", "PatientID=P-9", *at)
    assert done.returncode == 0, done.stderr
    assert (of("P-1"), of("P-9")) == ("0 matches", "1 match")
    undone = run_lfscp("correct", "undo", done.stdout.split()[-1], *at)
    assert undone.returncode == 0, undone.stderr
    assert (of("P-1"), of("P-9")) == ("1 match", "0 matches")

    merged = run_lfscp("correct", "patient", "P-2", "--into", "P-1", *at)
    confirmed = run_lfscp("correct", "confirm", merged.stdout.split()[-1], *at)
    assert confirmed.returncode == 0, confirmed.stderr
    assert (of("P-1"), of("P-2")) == ("2 matches", "0 matches")
    states = [line.split(", ")[0].split("  ")[1] for line in listed(at)]
    assert states == ["confirmed", "undone"]
    assert run_lfscp("check", *at).stdout == "index and objects agree\n"
    trail = (node.data_dir / "audit.log").read_text()
    assert trail.count("correction confirmed") == trail.count("correction undone") == 1
    assert f'"uid {os.getuid()}"' in trail


def listed(at: tuple[object, ...]) -> list[str]:
    return run_lfscp("correct", "list", *at).stdout.splitlines()


@pytest.mark.parametrize(
    ("asked", "code", "said"),
    [
        (("study", "1.9", "PatientID=A"), 1, "there is no study 1.9"),
        (("study", "1.2.1", "PatientID"), 2, "PatientID: expected KEYWORD=VALUE"),
        (("study", "1.2.1", "PatientWeight=80"), 2, "PatientWeight: expected one of PatientName"),
        (("study", "1.2.1", "PatientBirthDate=soon"), 2, "PatientBirthDate: expected"),
        (("study", "1.2.1", "PatientName=\x1b[31mred"), 2, "PatientName: expected"),
        (("study", "1.2.1", "PatientID=P-1"), 1, "nothing would change"),
        (
            ("study", "1.2.1", "--into", "P-8"),
            1,
            "no patient in the archive has",
        ),
        (("patient", "P-1", "AccessionNumber=1"), 2, "for all studies of a patient"),
        (("patient", "", "PatientName=A"), 1, "no patient in the archive has the Patient ID"),
        (("confirm", "1"), 1, "there is no such correction"),
        (("undo", "1"), 1, "there is no such correction"),
    ],
)
def test_a_command_that_cannot_correct_says_why_and_changes_nothing(
    tmp_path: Path, asked: tuple[str, ...], code: int, said: str
) -> None:
    of_sender(tmp_path / "in", 1, 1, study="1.2.1", patient="P-1")
    at = ("--data-dir", tmp_path / "data")
    assert run_lfscp("import", tmp_path / "in", *at).returncode == 0
    done = run_lfscp("correct", *asked, *at)
    assert (done.returncode, done.stdout) == (code, "")
    assert said in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert "\x1b" not in done.stderr
    assert listed(at) == []
