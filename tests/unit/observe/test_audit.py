"""The audit trail: its messages after PS3.15 A.5, its file, and what happens when that fails."""

from __future__ import annotations

import base64
import json
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from lfscp.observe import audit, audit_log, metrics
from lfscp.observe import audit_message as m
from lfscp.observe.audit import Peer, Transfer
from lfscp.observe.audit_log import AuditFile
from lfscp.observe.audit_message import Patient

CT = "1.2.840.10008.5.1.4.1.1.2"
STUDY = "1.2.3.4"
MODALITY = Peer("MODALITY", "192.0.2.7")
JANE = Patient("SECRET-47", "Doe^Jane")


@pytest.fixture
def trail(tmp_path: Path) -> Iterator[Path]:
    """The file of a trail that is on."""
    path = tmp_path / "audit.log"
    audit.start(path, "LFSCP")
    yield path
    audit.stop()


def messages(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def event_of(message: dict[str, Any]) -> tuple[str, str, int]:
    """EventID, EventActionCode, EventOutcomeIndicator."""
    event = message["EventIdentification"]
    return (
        event["EventID"]["csd-code"],
        event["EventActionCode"],
        event["EventOutcomeIndicator"],
    )


def test_nothing_is_written_before_it_starts(tmp_path: Path) -> None:
    audit.application_started()
    assert not audit.is_on()
    assert list(tmp_path.iterdir()) == []


def test_instances_received_name_who_sent_what_of_whom(trail: Path) -> None:
    audit.instances_received(MODALITY, STUDY, Transfer({CT: 200}, 104_857_600), JANE)

    (message,) = messages(trail)
    assert event_of(message) == ("110104", "C", 0)
    sender, here = message["ActiveParticipant"]
    assert (sender["UserID"], sender["UserIsRequestor"]) == ("MODALITY", True)
    assert sender["RoleIDCode"][0]["csd-code"] == "110153"
    assert (sender["NetworkAccessPointID"], sender["NetworkAccessPointTypeCode"]) == (
        "192.0.2.7",
        "2",
    )
    assert (here["UserID"], here["AlternativeUserID"]) == ("LFSCP", str(os.getpid()))
    study, patient = message["ParticipantObjectIdentification"]
    assert study["ParticipantObjectID"] == STUDY
    assert study["ParticipantObjectIDTypeCode"]["csd-code"] == "110180"
    assert study["ParticipantObjectDescription"]["SOPClass"] == [
        {"UID": CT, "NumberOfInstances": 200}
    ]
    assert (patient["ParticipantObjectID"], patient["ParticipantObjectName"]) == (
        "SECRET-47",
        "Doe^Jane",
    )
    assert message["AuditSourceIdentification"]["AuditSourceID"].startswith("LFSCP@")


def test_each_event_has_its_code_action_and_outcome(trail: Path) -> None:
    sent = Transfer({CT: 1}, 512, failed=2)
    audit.application_started()
    audit.association_began(MODALITY, "LFSCP")
    audit.association_ended(MODALITY, "LFSCP", "aborted by the peer")
    audit.association_rejected(MODALITY, "LFSCP", "calling AE title not recognised")
    audit.not_authorised(MODALITY, "C-MOVE", "this AE title may not retrieve")
    audit.instances_refused(MODALITY, {"0xA700": 3})
    audit.instances_sent(MODALITY, Peer("WS", "ws.example"), STUDY, sent, JANE)
    audit.queried(MODALITY, "1.2.840.10008.5.1.4.1.2.2.1", b"\x08\x00", {"keys": "PatientID=4*"})
    audit.deleted(STUDY, {CT: 7}, JANE)
    audit.deleted(STUDY, {CT: 1}, JANE, "instance 1.2.3.4.5")
    audit.user_authenticated("admin", "192.0.2.9", reason="wrong")
    audit.user_left("admin", "192.0.2.9")
    audit.application_stopped()

    written = messages(trail)
    assert [event_of(each) for each in written] == [
        ("110100", "E", 0),
        ("110108", "E", 0),
        ("110108", "E", 4),
        ("110113", "E", 4),
        ("110113", "E", 4),
        ("110104", "C", 4),
        ("110104", "R", 4),
        ("110112", "E", 0),
        ("110105", "D", 0),
        ("110103", "D", 0),
        ("110114", "E", 4),
        ("110114", "E", 0),
        ("110100", "E", 0),
    ]
    here, receiver, requestor = written[6]["ActiveParticipant"]
    assert [each["UserID"] for each in (here, receiver, requestor)] == ["LFSCP", "WS", "MODALITY"]
    assert receiver["NetworkAccessPointTypeCode"] == "1"
    asked = written[7]["ParticipantObjectIdentification"][0]
    assert base64.b64decode(asked["ParticipantObjectQuery"]) == b"\x08\x00"
    assert {"type": "keys", "value": "PatientID=4*"} in asked["ParticipantObjectDetail"]


def test_who_acts_is_named_for_what_happens_meanwhile(trail: Path) -> None:
    with audit.acting("admin", "192.0.2.9"):
        audit.deleted(STUDY, {}, None)
    audit.deleted(STUDY, {}, None)
    by_admin, by_itself = messages(trail)
    assert by_admin["ActiveParticipant"][0]["UserID"] == "admin"
    assert by_itself["ActiveParticipant"][0]["UserID"] == "LFSCP"


def test_xml_is_a_line_and_keeps_what_peers_write_harmless(tmp_path: Path) -> None:
    path = tmp_path / "audit.xml"
    audit.start(path, "LFSCP", format="xml")
    try:
        odd = Patient("4\n7</a>\x00", "Doe<&>\x1b[2J")
        audit.instances_received(Peer('A"\n', ""), STUDY, Transfer({CT: 1}), odd)
        audit.queried(MODALITY, CT, b"\xff\x00", {"keys": "PatientName=Ä*"})
    finally:
        audit.stop()
    received, asked = (ElementTree.fromstring(line) for line in path.read_text().splitlines())  # noqa: S314 - our own
    assert received.find("EventIdentification/EventID").get("csd-code") == "110104"
    objects = received.findall("ParticipantObjectIdentification")
    assert objects[0].find("ParticipantObjectDescription/SOPClass").get("UID") == CT
    assert objects[1].find("ParticipantObjectName").text == "Doe<&>\ufffd[2J"
    assert received.find("ActiveParticipant").get("UserIsRequestor") == "true"
    query = asked.find("ParticipantObjectIdentification")
    # The schema's order: the code, then name or query, then details.
    assert [child.tag for child in query][:3] == [
        "ParticipantObjectIDTypeCode",
        "ParticipantObjectQuery",
        "ParticipantObjectDetail",
    ]
    value = query.find("ParticipantObjectDetail").get("value")
    assert base64.b64decode(value).decode() == "PatientName=Ä*"


def test_json_is_the_same_as_the_parts() -> None:
    who = m.Participant('A"B', "::1", is_requestor=True, role=m.SOURCE)
    for reason in ("", 'no "room"'):
        objects = (Patient("1", "Ä"), m.Study(STUDY, {CT: 1}, {"bytes": 2}))
        message = m.Message("X", m.QUERY, "E", (who, who), objects, m.LOGIN, reason=reason)
        expected, written = message.parts(), json.loads(message.to_json())
        for each in (expected, written):
            assert each["EventIdentification"].pop("EventDateTime").endswith("+00:00")
        assert written == expected


# The file


@pytest.fixture(autouse=True)
def always_look(monkeypatch: pytest.MonkeyPatch) -> None:
    """The file's name and size are looked at for each record."""
    monkeypatch.setattr(audit_log, "_LOOK_AGAIN_S", 0.0)


def test_threads_never_mix_their_lines(tmp_path: Path) -> None:
    file = AuditFile(tmp_path / "log", sync=False)

    def write(letter: str) -> None:
        for _ in range(200):
            file.write(letter * 3000)

    threads = [threading.Thread(target=write, args=(letter,)) for letter in "abcd"]
    for each in threads:
        each.start()
    for each in threads:
        each.join(60)
    lines = (tmp_path / "log").read_text().splitlines()
    assert len(lines) == 800
    assert {len(set(line)) for line in lines} == {1}


def test_a_file_that_was_renamed_is_left_for_a_new_one(tmp_path: Path) -> None:
    path = tmp_path / "log"
    file = AuditFile(path, sync=True)
    file.write("one")
    path.rename(tmp_path / "log.old")
    file.write("two")
    file.reopen()
    file.write("three")
    assert (tmp_path / "log.old").read_text() == "one\n"
    assert path.read_text() == "two\nthree\n"


def test_large_files_are_renamed_and_some_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "log"
    files = [AuditFile(path, sync=False, max_bytes=10, keep=2) for _ in range(2)]
    for number in range(10):  # two processes take turns
        files[number % 2].write(f"line{number}")
    kept = [path.with_name(name) for name in ("log.2", "log.1")]
    lines = "".join(each.read_text() for each in kept) + (path.read_text() if path.exists() else "")
    assert lines.splitlines() == [f"line{number}" for number in range(6, 10)]
    assert not path.with_name("log.3").exists()


def test_what_cannot_be_written_waits_and_is_written_in_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit_log, "_TRY_AGAIN_S", 0.0)
    folder = tmp_path / "mounted"
    file = AuditFile(folder / "log", sync=False, stops=True)
    file.write("one")
    file.write("two")
    assert file.must_stop()
    assert metrics.AUDIT_FAILING.total(metrics.BOARD.sums()) == 1
    folder.mkdir()
    assert not file.must_stop()  # it tries again by itself
    assert metrics.AUDIT_FAILING.total(metrics.BOARD.sums()) == 0
    file.write("three")
    assert (folder / "log").read_text() == "one\ntwo\nthree\n"


def test_the_node_goes_on_unless_told_to_stop(tmp_path: Path) -> None:
    file = AuditFile(tmp_path / "gone" / "log", sync=False)
    file.write("one")
    assert file.is_failing()
    assert not file.must_stop()
    metrics.AUDIT_FAILING.set(0)


def test_so_many_wait_at_most(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit_log, "MAX_WAITING", 3)
    before = metrics.BOARD.sums()
    file = AuditFile(tmp_path / "gone" / "log", sync=False)
    for number in range(5):
        file.write(str(number))
    (tmp_path / "gone").mkdir()
    file.write("5")
    assert (tmp_path / "gone" / "log").read_text() == "3\n4\n5\n"
    after = metrics.BOARD.sums()
    (lost_before,), (lost,) = (
        [number for _, number in metrics.AUDIT_LOST.samples(sums)] for sums in (before, after)
    )
    assert lost - lost_before == 3
    assert metrics.AUDIT_FAILING.total(after) == 0


def test_a_full_disk_is_no_exception_and_leaves_a_line_of_its_own(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b'{"torn":')  # as a power cut or a full disk left it
    file = AuditFile(path, sync=False)
    file.write('{"whole":1}')
    assert path.read_text() == '{"torn":\n{"whole":1}\n'
    full = AuditFile(Path("/dev/full"), sync=False)
    full.write("one")
    assert full.is_failing()
    metrics.AUDIT_FAILING.set(0)
