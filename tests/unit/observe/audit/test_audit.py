"""The audit trail: its messages after PS3.15 A.5, its file, and what happens when that fails."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import threading
import tracemalloc
from collections.abc import Iterator
from contextvars import copy_context
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from lfscp.observe import audit, metrics
from lfscp.observe.audit import AuditedPeer, Transfer, current
from lfscp.observe.audit import log as audit_log
from lfscp.observe.audit import message as m
from lfscp.observe.audit import repeats as audit_repeats
from lfscp.observe.audit.log import AuditFile, old_files
from lfscp.observe.audit.message import Patient
from lfscp.observe.audit.repeats import Repeats

CT = "1.2.840.10008.5.1.4.1.1.2"
STUDY = "1.2.3.4"
MODALITY = AuditedPeer("MODALITY", "192.0.2.7")
JANE = Patient("SECRET-47", "Doe^Jane")


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
    audit.peer_changed("WS", "added: ws.example:104")
    audit.instances_refused(MODALITY, {"0xA700": 3})
    audit.instances_sent(MODALITY, AuditedPeer("WS", "ws.example"), STUDY, sent, JANE)
    audit.queried(MODALITY, "1.2.840.10008.5.1.4.1.2.2.1", b"\x08\x00", {"keys": "PatientID=4*"})
    audit.deleted(STUDY, {CT: 7}, JANE)
    audit.deleted(STUDY, {CT: 1}, JANE, "instance 1.2.3.4.5")
    audit.worklist_item_recorded("U", STUDY, {"worklist item": 7}, JANE)
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
        ("110113", "E", 0),
        ("110104", "C", 4),
        ("110104", "R", 4),
        ("110112", "E", 0),
        ("110105", "D", 0),
        ("110103", "D", 0),
        ("110111", "U", 0),
        ("110114", "E", 4),
        ("110114", "E", 0),
        ("110100", "E", 0),
    ]
    here, receiver, requestor = written[7]["ActiveParticipant"]
    assert [each["UserID"] for each in (here, receiver, requestor)] == ["LFSCP", "WS", "MODALITY"]
    assert receiver["NetworkAccessPointTypeCode"] == "1"
    asked = written[8]["ParticipantObjectIdentification"][0]
    assert base64.b64decode(asked["ParticipantObjectQuery"]) == b"\x08\x00"
    assert {"type": "keys", "value": "PatientID=4*"} in asked["ParticipantObjectDetail"]


def test_who_acts_is_named_for_what_happens_meanwhile(trail: Path) -> None:
    of_a_request = copy_context()
    of_a_request.run(audit.act_as, "admin", "192.0.2.9")
    of_a_request.run(audit.deleted, STUDY, {}, None)
    audit.deleted(STUDY, {}, None)
    by_admin, by_itself = messages(trail)
    assert by_admin["ActiveParticipant"][0]["UserID"] == "admin"
    assert by_itself["ActiveParticipant"][0]["UserID"] == "LFSCP"


def test_xml_is_a_line_and_keeps_what_peers_write_harmless(tmp_path: Path) -> None:
    path = tmp_path / "audit.xml"
    audit.start(path, "LFSCP", format="xml")
    try:
        odd = Patient("4\n7</a>\x00", "Doe<&>\x1b[2J")
        audit.instances_received(AuditedPeer('A"\n', ""), STUDY, Transfer({CT: 1}), odd)
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


@pytest.mark.parametrize("written_as", ["json", "xml"])
def test_a_procedure_step_is_named_with_its_study(tmp_path: Path, written_as: Any) -> None:
    path = tmp_path / "audit.log"
    audit.start(path, "LFSCP", format=written_as)
    try:
        for status in ("IN PROGRESS", "COMPLETED"):
            audit.procedure_step_recorded(MODALITY, m.UPDATE, STUDY, "1.2.3.4", status, JANE)
    finally:
        audit.stop()
    _, line = path.read_text().splitlines()
    if written_as == "xml":
        message = ElementTree.fromstring(line)  # noqa: S314 - our own
        assert message.find("EventIdentification").get("EventActionCode") == "U"
        study, patient = message.findall("ParticipantObjectIdentification")
        assert study.find("ParticipantObjectDescription/MPPS").get("UID") == "1.2.3.4"
        assert patient.get("ParticipantObjectID") == JANE.patient_id
    else:
        message = json.loads(line)
        assert event_of(message) == ("110111", "U", 0)
        study, _ = message["ParticipantObjectIdentification"]
        assert study["ParticipantObjectDescription"] == {"MPPS": [{"UID": "1.2.3.4"}]}
        assert study["ParticipantObjectDetail"] == [{"type": "status", "value": "COMPLETED"}]


def test_a_message_is_written_whole_though_parts_of_it_were_written_before() -> None:
    for address, kind, number in (("::1", "2", 1), ("::1", "2", 2), ("pc", "1", 2)):
        who = m.Participant('A"B', address, is_requestor=True, role=m.SOURCE)
        for reason in ("", 'no "room"', "none"):
            objects = (Patient("1", "Ä"), m.Study(STUDY, {CT: number}, {}))
            message = m.AuditMessage("X", m.QUERY, "E", (who, who), objects, m.LOGIN, reason=reason)
            written = json.loads(message.to_json())
            query = {"csd-code": "110112", "codeSystemName": "DCM", "originalText": "Query"}
            login = {"csd-code": "110122", "codeSystemName": "DCM", "originalText": "Login"}
            event = written.pop("EventIdentification")
            assert event.pop("EventDateTime").endswith("+00:00")
            assert event == {
                "EventActionCode": "E",
                "EventOutcomeIndicator": 0,
                "EventID": query,
                "EventTypeCode": [login],
            } | ({"EventOutcomeDescription": reason} if reason else {})
            both = written.pop("ActiveParticipant")
            assert both[0] == both[1] == who.parts()
            assert both[0]["NetworkAccessPointTypeCode"] == kind
            source = {"AuditSourceID": "X", "AuditSourceTypeCode": [{"csd-code": "4"}]}
            assert written.pop("AuditSourceIdentification") == source
            parts = [each.parts() for each in objects]
            assert written == {"ParticipantObjectIdentification": parts}

            root = ElementTree.fromstring(message.to_xml())  # noqa: S314 - our own
            assert [each.tag for each in root] == [
                "EventIdentification",
                *["ActiveParticipant"] * 2,
                "AuditSourceIdentification",
                *["ParticipantObjectIdentification"] * 2,
            ]
            assert (root[0].findtext("EventOutcomeDescription") or "") == reason
            assert root[1].get("NetworkAccessPointID") == address
            counted = root[5].find("ParticipantObjectDescription/SOPClass")
            assert counted is not None
            assert counted.get("NumberOfInstances") == str(number)


@pytest.mark.parametrize("format", ["json", "xml"])
def test_a_text_that_no_encoding_has_is_written_in_another_way(
    tmp_path: Path,
    format: Any,  # noqa: A002 - the setting's name
) -> None:
    path = tmp_path / "audit.log"
    audit.start(path, "LFSCP", format=format)
    try:
        audit.queried(AuditedPeer("X\udcff", "::1"), CT, b"", {"keys": "PatientName=\udcff"})
        audit.deleted(STUDY, {}, Patient("\udcff", "\udcff"), part="\udcff")
    finally:
        audit.stop()

    assert len(path.read_bytes().splitlines()) == 2


# What is long, and what repeats


WIDE = "\U0001f600" * 100_000  # no character takes more room in JSON
MARKS = '&"' * 100_000  # nor in XML


@pytest.mark.parametrize("value", [WIDE, MARKS, "a" * 1_000_000, "\x00" * 100_000])
@pytest.mark.parametrize("format", ["json", "xml"])
def test_no_message_takes_more_than_a_small_part_of_a_file(
    tmp_path: Path,
    value: str,
    format: Any,  # noqa: A002 - the setting's name
) -> None:
    path = tmp_path / "audit.log"
    audit.start(path, "LFSCP", format=format)
    peer, patient = AuditedPeer(value, value), Patient(value, value)
    many = Transfer({f"{value[:100]}{number}": 1 for number in range(2000)}, 9, failed=1)
    try:
        audit.application_stopped(value)
        audit.association_began(peer, value, value)
        audit.association_ended(peer, value, value)
        audit.association_rejected(peer, value, value)
        audit.not_authorised(peer, value, value)
        audit.instances_received(peer, value, many, patient)
        audit.instances_refused(peer, {value: 3})
        audit.instances_sent(peer, AuditedPeer("X", value), value, many, patient)
        audit.queried(peer, value, value.encode(), {"keys": value, "matches": 1}, value)
        of_a_request = copy_context()
        of_a_request.run(audit.act_as, value, value)
        of_a_request.run(audit.deleted, value, many.instances, patient, value)
        of_a_request.run(audit.accessed, value, value, patient)
        audit.user_authenticated(value, value, reason=value)
        audit.user_left(value, value)
    finally:
        audit.stop()
    lines = path.read_bytes().splitlines()
    assert len(lines) == 13
    assert max(map(len, lines)) <= m.MAX_MESSAGE_BYTES


def test_what_is_cut_says_how_long_it_was_and_its_digest(trail: Path) -> None:
    identifier = b"\x08\x00" * 500_000
    keys = "PatientID=" + "4" * 1_000_000
    audit.queried(MODALITY, CT, identifier, {"keys": keys})
    audit.instances_received(MODALITY, STUDY, Transfer(dict.fromkeys(map(str, range(70)), 2)), JANE)
    asked, received = messages(trail)
    query = asked["ParticipantObjectIdentification"][0]
    details = {each["type"]: each["value"] for each in query["ParticipantObjectDetail"]}
    assert identifier.startswith(base64.b64decode(query["ParticipantObjectQuery"]))
    assert details["query bytes"] == "1000000"
    assert details["query sha256"] == hashlib.sha256(identifier).hexdigest()
    assert details["keys"].startswith("PatientID=444")
    digest = hashlib.sha256(keys.encode()).hexdigest()
    assert details["keys"].endswith(f"... (1000010 characters, sha256 {digest})")
    study = received["ParticipantObjectIdentification"][0]
    assert len(study["ParticipantObjectDescription"]["SOPClass"]) == 64
    counted = {each["type"]: each["value"] for each in study["ParticipantObjectDetail"]}
    assert (counted["further SOP classes"], counted["instances of these"]) == ("6", "12")


def test_what_is_not_long_is_whole() -> None:
    for text in ("", "Doe^Jane", "山田^太郎=やまだ^たろう=ヤマダ^タロウ", '<&"\n>'):
        assert m.cut(text) == text


@pytest.fixture
def limited(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Path, list[float]]]:
    """A trail that writes three alike within a minute, and its clock."""
    now = [1000.0]
    monkeypatch.setattr(current, "Repeats", lambda most: Repeats(most, lambda: now[0]))
    path = tmp_path / "audit.log"
    audit.start(path, "LFSCP", same_per_minute=3)
    yield path, now
    audit.stop()


def reasons(path: Path) -> list[str]:
    return [
        each["EventIdentification"].get("EventOutcomeDescription", "") for each in messages(path)
    ]


def test_refusals_of_one_address_are_counted_whatever_names_they_give(
    limited: tuple[Path, list[float]],
) -> None:
    path, now = limited
    for number in range(1000):
        audit.association_rejected(AuditedPeer(f"TITLE{number}", "192.0.2.7"), "LFSCP", "not known")
        audit.user_authenticated(f"user{number}", f"2001:db8::{number:x}", reason="wrong")
    audit.association_rejected(AuditedPeer("OTHER", "192.0.2.8"), "LFSCP", "not known")
    assert len(messages(path)) == 7
    now[0] += 61
    audit.application_started()  # whoever writes next says it
    told = reasons(path)[7:]
    assert "not known; 997 more of these within 61 s" in told
    assert "wrong; 997 more of these within 61 s" in told
    audit.association_rejected(MODALITY, "LFSCP", "not known")
    assert reasons(path)[-1] == "not known"


def test_what_says_the_same_is_counted_and_what_differs_is_not(
    limited: tuple[Path, list[float]],
) -> None:
    path, _ = limited
    for number in range(20):
        audit.association_began(MODALITY, "LFSCP")
        audit.queried(MODALITY, CT, b"same", {"matches": 1})
        audit.queried(MODALITY, CT, b"%d" % number, {"matches": 1})
    assert len(messages(path)) == 3 + 3 + 20
    audit.tell_repeats()
    assert reasons(path)[26:] == ["17 more of these within 0 s"] * 2


def test_an_address_that_comes_under_ever_other_titles_is_counted(
    limited: tuple[Path, list[float]],
) -> None:
    path, _ = limited
    for number in range(100):
        audit.association_began(AuditedPeer(f"TITLE{number}", "192.0.2.7"), "LFSCP")
    assert len(messages(path)) == 30


def details_of(message: dict[str, Any]) -> dict[str, str]:
    """What a message says of its first object."""
    found = message["ParticipantObjectIdentification"][0]["ParticipantObjectDetail"]
    return {each["type"]: each["value"] for each in found}


@pytest.mark.parametrize("format", ["json", "xml"])
def test_ever_other_queries_of_one_address_are_recorded_in_short_and_then_counted(
    tmp_path: Path,
    format: Any,  # noqa: A002 - the setting's name
) -> None:
    path = tmp_path / "audit.log"
    audit.start(path, "LFSCP", format=format, same_per_minute=60, queries_per_minute=2)
    for number in range(30):
        title = AuditedPeer(f"TITLE{number}", "192.0.2.7")
        audit.queried(title, CT, b"%04d" % number * 5000, {"keys": f"PatientID={number}" * 99})
    audit.queried(AuditedPeer("OTHER", "192.0.2.8"), CT, b"another's", {"keys": "PatientID=1"})
    audit.stop()
    lines = path.read_text().splitlines()
    assert len(lines) == 2 + 20 + 1 + 1
    assert all(len(line) > 5000 for line in lines[:2])
    assert all(len(line) < 2000 for line in lines[2:])
    assert "8 more of these within" in lines[-1]
    assert "192.0.2.7" in lines[-1]
    if format == "json":
        *asked, others, _ = messages(path)
        short = details_of(asked[2])
        assert short["keys"].startswith("PatientID=2")
        assert short["query bytes"] == "20000"
        assert short["query sha256"] == hashlib.sha256(b"0002" * 5000).hexdigest()
        query = others["ParticipantObjectIdentification"][0]["ParticipantObjectQuery"]
        assert base64.b64decode(query) == b"another's"


def test_what_is_kept_of_a_long_query_until_its_likes_are_told_is_short(tmp_path: Path) -> None:
    audit.start(tmp_path / "audit.log", "LFSCP", same_per_minute=60)
    tracemalloc.start()
    try:
        for number in range(100):
            audit.queried(MODALITY, CT, b"%04d" % number * 100_000, {"keys": "A" * 100_000})
        assert tracemalloc.get_traced_memory()[0] < 4_000_000
    finally:
        tracemalloc.stop()
        audit.stop()


def test_ever_other_refusals_to_store_of_one_address_are_counted(
    limited: tuple[Path, list[float]],
) -> None:
    path, _ = limited
    for number in range(100):
        audit.instances_refused(MODALITY, {"0xA900": number})
    assert len(messages(path)) == 30


def test_the_count_is_told_though_nobody_writes_any_more() -> None:
    told: list[int] = []
    is_told = threading.Event()

    def tell(number: int, _: float) -> None:
        told.append(number)
        is_told.set()

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(audit_repeats, "WINDOW_S", 0.05)
        now = [0.0]
        repeats = Repeats(1, lambda: now[0])
        for _ in range(5):
            repeats.may_write("key", tell)
        now[0] = 1.0
        assert is_told.wait(30)
    assert told == [4]


def test_what_is_remembered_of_repeats_has_an_end() -> None:
    repeats = Repeats(1)
    told: list[int] = []
    for _ in range(2):
        repeats.may_write("first", lambda number, _: told.append(number))
    for number in range(2 * audit_repeats.MAX_KINDS):
        assert repeats.may_write(number, lambda number, _: told.append(number))
    assert told == [1]
    assert len(repeats._kinds) <= audit_repeats.MAX_KINDS


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


def test_however_fast_the_files_fill_what_is_young_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "log"
    file = AuditFile(path, sync=False, max_bytes=10, keep=2, keep_s=3600)
    for number in range(50):
        file.write(f"line{number:02}, long enough")
    assert len(list(tmp_path.iterdir())) == 50
    for number in range(1, 51):
        at = path.with_name(f"log.{number}").stat().st_mtime - 10 * number
        os.utime(path.with_name(f"log.{number}"), (at, at))
    file.write("one more, and the others are some seconds apart")
    assert path.with_name("log.1").read_text().startswith("one more")
    kept = [each for each in range(1, 60) if path.with_name(f"log.{each}").exists()]
    assert kept == list(range(1, 52))
    os.utime(path.with_name("log.51"), (1, 1))
    os.utime(path.with_name("log.50"), (1, 1))
    file.write("a jump of the clock makes nothing old")
    assert path.with_name("log.52").exists()


DAY = 86_400.0


def test_files_go_when_there_are_enough_and_they_are_old() -> None:
    daily = [100 * DAY - number * DAY for number in range(60)]
    assert old_files(daily, keep=20, keep_s=30 * DAY) == 30  # of 59
    assert old_files(daily, keep=40, keep_s=30 * DAY) == 20
    assert old_files(daily, keep=20, keep_s=0) == 40
    assert old_files(daily[:20], keep=20, keep_s=30 * DAY) == 0
    assert old_files([1000 * DAY, *daily], keep=1, keep_s=30 * DAY) == 60 - 23  # 7.5 days of it
    assert old_files([0.0, *daily], keep=1, keep_s=30 * DAY) == 30


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


def test_so_many_bytes_wait_at_most(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit_log, "MAX_WAITING_BYTES", 1000)
    file = AuditFile(tmp_path / "gone" / "log", sync=False)
    for number in range(5):
        file.write(f"{number}" * 400)
    (tmp_path / "gone").mkdir()
    file.write("5")
    assert [line[0] for line in (tmp_path / "gone" / "log").read_text().splitlines()] == list("345")


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
