"""Performed procedure steps in real nodes: several workers, kill -9, log and audit trail."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest

from tests.e2e.test_audit_trail import records
from tests.e2e.test_procedure_steps import UID_1, change, create, decoded, encoded
from tests.support.node_process import NodeProcess, StartNode
from tests.support.procedure_step_peer import MPPS_RETRIEVE, N_CREATE, N_GET, N_SET, modality
from tests.support.procedure_steps import STUDY, changes, ended, started

DEVICES = 6
ROUNDS = 6


def description(node: NodeProcess, uid: str = UID_1) -> tuple[str, str]:
    """Status and description of a step, as N-GET gives them."""
    with modality(node.port, sop_class=MPPS_RETRIEVE) as reader:
        step = decoded(reader.ask(N_GET, uid))
    return step.PerformedProcedureStepStatus, step.PerformedProcedureStepDescription


def test_of_devices_that_end_a_step_at_once_one_does(
    start_node: StartNode, index_url: str | None
) -> None:
    configuration = f'[index]\nurl = "{index_url or ""}"'
    node = start_node(flags=["--workers", 2], configuration=configuration)
    uids = [f"1.2.3.{number}" for number in range(ROUNDS)]
    together = threading.Barrier(DEVICES)

    def device(number: int) -> list[tuple[int, int]]:
        with modality(node.port) as associated:
            answers = []
            for uid in uids:
                together.wait(30)
                created = create(associated, uid).status
                together.wait(30)
                end = ended(PerformedProcedureStepDescription=f"{number}")
                answers.append((created, change(associated, end, uid).status))
            return answers

    with ThreadPoolExecutor(DEVICES) as threads:
        answers = list(threads.map(device, range(DEVICES)))
    for at, uid in enumerate(uids):
        created = [each[at][0] for each in answers]
        assert sorted(created) == [0x0000] + [0x0111] * (DEVICES - 1)
        changed = [each[at][1] for each in answers]
        assert sorted(changed) == [0x0000] + [0x0110] * (DEVICES - 1)
        assert description(node, uid) == ("COMPLETED", str(changed.index(0x0000)))


@pytest.mark.timeout(180)
def test_what_was_acknowledged_survives_the_death_of_the_node(
    tmp_path: Path, index_url: str | None
) -> None:
    configuration = f'[index]\nurl = "{index_url or ""}"'
    node = NodeProcess(tmp_path / "node", configuration=configuration)
    known: dict[str, str] = {}  # by UID: the last description that was acknowledged
    try:
        node.start()
        for number in range(ROUNDS):
            done = threading.Event()
            device = threading.Thread(target=report, args=(node.port, number, known, done))
            device.start()
            assert done.wait(30)
            node.kill()
            device.join(30)
            node.start()
            assert known
            for uid, text in known.items():
                _, kept = description(node, uid)
                # The last change may have been committed without an answer.
                assert kept in (text, str(int(text or -1) + 1)), uid
        assert node.stop() == 0
    finally:
        node.kill()


def report(port: int, number: int, known: dict[str, str], done: threading.Event) -> None:
    """Make steps and change them, again and again, until the node is gone."""
    with suppress(OSError, TypeError, AssertionError), modality(port) as device:
        for step in range(1000):
            uid = f"1.2.{number + 1}.{step}"
            if create(device, uid).status == 0x0000:
                known[uid] = ""
            for text in map(str, range(3)):
                wanted = changes(PerformedProcedureStepDescription=text)
                if change(device, wanted, uid).status == 0x0000:
                    known[uid] = text
            if step == 3:
                done.set()


def test_the_log_and_the_audit_trail_of_a_step(start_node: StartNode) -> None:
    node = start_node()
    dataset = started(PatientName="Verysecret^Jane", PatientID="HIDDEN")
    with modality(node.port) as device:
        device.ask(N_CREATE, UID_1, encoded(dataset))
        device.ask(N_SET, UID_1, encoded(ended()))
        device.ask(N_SET, UID_1, encoded(ended()))
        device.ask(N_GET, UID_1)
    assert node.stop() == 0
    lines = [each for name in ("N-CREATE", "N-SET", "N-GET") for each in node.events(name)]
    assert [(each["event"], each["status"], each["level"]) for each in lines] == [
        ("N-CREATE", "0x0000", "info"),
        ("N-SET", "0x0000", "info"),
        ("N-SET", "0x0110", "warning"),
        ("N-GET", "0x0000", "info"),
    ]
    assert {each["sop_instance_uid"] for each in lines} == {UID_1}
    assert (lines[1]["step_status"], lines[1]["study_uid"]) == ("COMPLETED", STUDY)
    assert "may no longer be updated" in lines[2]["reason"]
    assert "Verysecret" not in node.log
    assert "HIDDEN" not in node.log
    recorded = records(node, "110111")
    actions = [each["EventIdentification"]["EventActionCode"] for each in recorded]
    assert actions == ["C", "U", "R"]
    study, patient = recorded[1]["ParticipantObjectIdentification"]
    assert study["ParticipantObjectID"] == STUDY
    assert study["ParticipantObjectDescription"] == {"MPPS": [{"UID": UID_1}]}
    assert (patient["ParticipantObjectID"], patient["ParticipantObjectName"]) == (
        "HIDDEN",
        "Verysecret^Jane",
    )


def test_a_uid_that_is_none_leaves_one_line(start_node: StartNode) -> None:
    node = start_node()
    with modality(node.port) as device:
        assert create(device, "abc").status == 0x0117
    assert node.stop() == 0
    (line,) = node.events("N-CREATE")
    assert line["status"] == "0x0117"
    assert [each for each in node.lines if not each.startswith("{")] == []
