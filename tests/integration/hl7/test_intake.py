"""What messages do to the worklist, in both databases, and how they are answered."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import hl7
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset

from lfscp.archive.index.index import Index
from lfscp.archive.workflow.worklist.worklist import Worklist
from lfscp.config.workflow import Worklist as WorklistSettings
from lfscp.dicom.models.element_tree import dataset_of
from lfscp.hl7.intake import Intake
from lfscp.observe import audit, metrics
from lfscp.observe.log_budget import RequestLines
from lfscp.observe.logging import configure
from tests.integration.hl7.conftest import SETTINGS
from tests.support.hl7_messages import PID, STUDY, adt, header, message, omi, orm, segment
from tests.support.worklist_items import worklist_tree

PEER = "192.0.2.7"


def tell(intake: Intake, data: bytes) -> str:
    """Send a message: the code of the answer."""
    return segment(answer(intake, data), "MSA")[1]


def answer(intake: Intake, data: bytes) -> str:
    return intake.take(data, PEER).decode()


def listed(worklist: Worklist) -> list[Dataset]:
    """The items, the oldest first."""
    return [dataset_of(each.dataset) for each in reversed(worklist.items())]


def statuses(item: Dataset) -> list[str]:
    return [step.ScheduledProcedureStepStatus for step in item.ScheduledProcedureStepSequence]


def begin(index: Index, worklist: Worklist, step: str, status: str = "STARTED") -> None:
    """A device begins a step."""
    with index.writing() as connection:
        found = [each for each in listed(worklist) if step in str(each)]
        assert worklist.set_step_status(
            connection,
            study_uid=found[0].StudyInstanceUID,
            step_id=step,
            accession_number="",
            status=status,
            procedure_step_uid="1.2.3",
        )


def test_an_order_is_an_item_and_the_same_order_again_is_no_second(intake, worklist):
    assert [tell(intake, orm()) for _ in range(3)] == ["AA"] * 3
    (item,) = listed(worklist)
    assert item.PatientName == "Müller^Jörg^K^Dr.^Jr PhD"
    assert worklist.items()[0].source == "hl7"


def test_a_changed_order_changes_its_item_and_keeps_what_has_begun(intake, index, worklist):
    tell(intake, omi())
    begin(index, worklist, "SPS1")
    assert tell(intake, omi("XO", at="202612030700")) == "AA"
    (item,) = listed(worklist)
    assert statuses(item) == ["STARTED", "SCHEDULED"]
    step = item.ScheduledProcedureStepSequence[1]
    assert step.ScheduledProcedureStepStartDate == "20261203"


def test_a_change_of_an_order_that_is_not_known_adds_it(intake, worklist):
    assert tell(intake, orm("XO")) == "AA"
    assert len(listed(worklist)) == 1


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ({"filler": ""}, {}),  # the filler's number comes later
        ({}, {"filler": ""}),
        ({"placer": ""}, {}),
        ({"procedure": "", "study": ""}, {}),
        ({"placer": "P100"}, {}),  # who gave it comes later
    ],
)
def test_one_of_its_numbers_is_enough_to_find_an_order(intake, worklist, first, second):
    assert tell(intake, orm(**first)) == "AA"
    assert tell(intake, orm("XO", **second, accession="A301")) == "AA"
    (item,) = listed(worklist)
    assert item.AccessionNumber == "A301"
    for numbers in ({"filler": ""}, {"placer": ""}):
        if all({**first, **second}.get(key, "x") or key in numbers for key in ("placer", "filler")):
            assert tell(intake, orm("CA", **numbers)) == "AA"
            assert listed(worklist) == []
            return


@pytest.mark.parametrize(
    "other",
    [
        {"placer": "P101^HIS", "filler": "F201^RIS"},
        {"placer": "p100^HIS", "filler": "f200^RIS"},
        {"placer": "P100^OTHER", "filler": ""},
        {"filler": "F201^RIS"},
        {"procedure": "RP2", "study": f"{STUDY}.2"},
        {"placer": "P%^HIS", "filler": "F_^RIS"},
    ],
)
def test_other_numbers_are_another_order(intake, worklist, other):
    tell(intake, orm())
    assert tell(intake, orm(**other)) == "AA"
    assert len(listed(worklist)) == 2
    assert tell(intake, orm("CA", **other)) == "AA"
    (left,) = listed(worklist)
    assert left.FillerOrderNumberImagingServiceRequest == "F200"


def test_an_item_keeps_the_study_that_was_made_for_it(intake, worklist):
    tell(intake, orm(study="", placer=""))
    before = listed(worklist)[0].StudyInstanceUID
    tell(intake, orm("XO", study=""))
    assert [each.StudyInstanceUID for each in listed(worklist)] == [before]


@pytest.mark.parametrize("control", ["CA", "OC", "DC", "OD"])
def test_a_cancelled_order_goes_and_cancelling_it_again_is_no_error(intake, worklist, control):
    tell(intake, orm())
    tell(intake, orm(placer="P1", filler="F1"))
    assert [tell(intake, orm(control)) for _ in range(2)] == ["AA", "AA"]
    assert [each.FillerOrderNumberImagingServiceRequest for each in listed(worklist)] == ["F1"]


def test_a_cancel_that_names_the_order_alone_removes_all_its_procedures(intake, worklist):
    tell(intake, orm())
    tell(intake, orm(procedure="RP2", study=f"{STUDY}.2"))
    assert tell(intake, message(header("ORM^O01"), PID, "ORC|CA|P100^HIS|F200^RIS")) == "AA"
    assert listed(worklist) == []


def test_cancelling_what_has_begun_is_refused_and_takes_the_rest_off_the_worklist(
    intake, index, worklist
):
    tell(intake, omi())
    begin(index, worklist, "SPS1")
    for _ in range(2):  # a sender that tries again hears the same
        said = answer(intake, omi("CA"))
        assert segment(said, "MSA")[1] == "AE"
        assert segment(said, "ERR")[3] == "206^Application record locked^HL70357"
        assert [statuses(each) for each in listed(worklist)] == [["STARTED"]]


def test_discontinuing_what_has_begun_leaves_that_alone(intake, index, worklist):
    tell(intake, omi())
    begin(index, worklist, "SPS2")
    assert tell(intake, omi("DC")) == "AA"
    (item,) = listed(worklist)
    assert [step.ScheduledProcedureStepID for step in item.ScheduledProcedureStepSequence] == [
        "SPS2"
    ]


@pytest.mark.parametrize(("control", "status"), [("SC", "CM"), ("SC", "CA"), ("XO", "DC")])
def test_a_status_that_leaves_nothing_to_do_takes_the_order_off_the_worklist(
    intake, worklist, control, status
):
    tell(intake, orm())
    assert tell(intake, orm(control, status=status)) == "AA"
    assert listed(worklist) == []


def test_a_status_changes_an_item_only_if_it_says_when(intake, worklist):
    tell(intake, orm())
    bare = message(
        header("ORM^O01"), PID, "ORC|SC|P100^HIS|F200^RIS||IP", "OBR|1|P100^HIS|F200^RIS"
    )
    assert tell(intake, bare) == "AA"
    assert tell(intake, orm("SC", status="IP", accession="A302")) == "AA"
    assert [each.AccessionNumber for each in listed(worklist)] == ["A302"]


def test_an_order_that_replaces_another_does_it_in_one_message(intake, worklist):
    tell(intake, orm())
    new = orm("RO", placer="P2", filler="F2", procedure="RP2", study=f"{STUDY}.2")
    head, order = new.split(b"\rORC|", 1)
    both = head + b"\rORC|RP|P100^HIS|F200^RIS\rOBR|1\rORC|" + order
    assert tell(intake, both) == "AA"
    assert [each.RequestedProcedureID for each in listed(worklist)] == ["RP2"]


def test_nothing_is_done_when_one_order_of_a_message_is_wrong(intake, worklist):
    tell(intake, orm())
    wrong = orm("NW", placer="P3", filler="F3", modality="ZZ")
    head, order = wrong.split(b"\rORC|", 1)
    both = head + b"\rORC|CA|P100^HIS|F200^RIS\rORC|" + order
    assert tell(intake, both) == "AE"
    assert len(listed(worklist)) == 1


# Patients


NEW_PID = PID.replace("Müller", "Maier").replace("19700102", "19700103")


def test_an_updated_patient_changes_the_items_that_are_not_performed(intake, index, worklist):
    tell(intake, orm())
    tell(intake, orm(placer="P2", filler="F2", step="DONE", procedure="RP2", study=f"{STUDY}.2"))
    begin(index, worklist, "DONE", "COMPLETED")
    worklist.add(worklist_tree(PatientID="4711", IssuerOfPatientID="OTHER"))
    of_page = worklist.add(worklist_tree(PatientID="4711"), source="page")
    worklist.put("folder:n1", "a.wl", worklist_tree(PatientID="4711"))
    assert tell(intake, adt("A08", pid=NEW_PID)) == "AA"
    names = [str(each.PatientName) for each in listed(worklist)]
    assert names == [
        "Maier^Jörg^K^Dr.^Jr PhD",
        "Müller^Jörg^K^Dr.^Jr PhD",
        "Doe^Jane",
        "Maier^Jörg^K^Dr.^Jr PhD",
        "Doe^Jane",
    ]
    changed = worklist.get(of_page)
    assert dataset_of(changed.dataset).PatientBirthDate == "19700103"


def test_an_item_with_a_step_left_is_changed_and_keeps_the_states(intake, index, worklist):
    tell(intake, omi())
    begin(index, worklist, "SPS1")
    assert tell(intake, adt("A08", pid="PID|1||815^^^&1.2.3.4&ISO^PI||New^Name")) == "AA"
    (item,) = listed(worklist)
    assert (item.PatientName, statuses(item)) == ("New^Name", ["STARTED", "SCHEDULED"])
    assert item.PatientSex == "F", "an empty field changes nothing"


def test_a_null_value_takes_an_attribute_away(intake, worklist):
    tell(intake, orm())
    assert tell(intake, adt("A08", pid='PID|1||4711^^^HOSP||Müller^Jörg||""|M')) == "AA"
    (item,) = listed(worklist)
    assert "PatientBirthDate" not in item
    assert item.PatientSex == "M"


def test_a_merge_gives_the_items_to_the_patient_that_stays(intake, worklist):
    tell(intake, orm())
    tell(intake, orm(placer="P2", filler="F2", pid=PID.replace("4711", "4712"), study=f"{STUDY}.2"))
    stays = PID.replace("4711", "9000").replace("Müller", "Maier")
    assert tell(intake, adt("A40", "MRG|4711^^^HOSP^MR", pid=stays)) == "AA"
    found = [(each.PatientID, str(each.PatientName)) for each in listed(worklist)]
    assert found == [
        ("9000", "Maier^Jörg^K^Dr.^Jr PhD"),
        ("4712", "Müller^Jörg^K^Dr.^Jr PhD"),
    ]


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (adt("A40"), "MRG"),
        (adt("A40", "MRG|"), "MRG-1"),
        (adt("A08", pid="PV1|1"), "PID"),
        (adt("A08", pid="PID|1||4711"), "PID-5"),
    ],
)
def test_patients_that_are_not_named(intake, data, reason):
    said = answer(intake, data)
    assert segment(said, "MSA")[1] == "AE"
    assert f"{reason}: " in segment(said, "MSA")[3]


# Answers


@pytest.mark.parametrize("event", ["A01", "A03", "A04", "A28"])
def test_other_visits_are_accepted_and_change_nothing(intake, worklist, event):
    assert tell(intake, adt(event)) == "AA"
    assert listed(worklist) == []


@pytest.mark.parametrize(
    ("kind", "code", "place"),
    [
        ("ORU^R01", "200", "MSH^1^9^1^1"),
        ("ADT^A47", "201", "MSH^1^9^1^2"),
        ("ORM^O02", "201", "MSH^1^9^1^2"),
        ("", "200", "MSH^1^9^1^1"),
    ],
)
def test_other_messages_are_rejected(intake, kind, code, place):
    said = answer(intake, message(header(kind, "77", "2.5"), PID))
    assert segment(said, "MSA")[1:3] == ["AR", "77"]
    error = segment(said, "ERR")
    assert (error[2], error[3].split("^")[0], error[4]) == (place, code, "E")


def test_an_answer_has_the_separators_the_version_and_the_parties_of_its_message(intake):
    data = b"MSH#*+!%#RIS#HOSP#LF#PACS#20260101##ORM*O01#ID!E!7#P#2.5.1######8859/1\rZZZ#1\r"
    said = answer(intake, data)
    first, second, third = said.rstrip("\r").split("\r")
    fields = first.split("#")
    assert fields[:6] == ["MSH", "*+!%", "LF", "PACS", "RIS", "HOSP"]
    assert fields[8] == "ACK*O01*ACK"
    assert fields[10:12] == ["P", "2.5.1"]
    assert fields[-1] == "8859/1"
    assert second.startswith("MSA#AE#ID!E!7#ORC: no order in the message")
    assert third.startswith("ERR##ORC*1#100*Segment sequence error*HL70357#E####no order")


def test_the_error_of_an_old_version_is_in_one_field(intake):
    said = answer(intake, orm(modality="ZZ"))
    assert segment(said, "ERR") == ["ERR", "OBR^1^24^103&Table value not found&HL70357"]


def test_a_library_reads_the_answers(intake):
    for data in (orm(), orm(modality="ZZ"), b"rubbish"):
        read = hl7.parse(answer(intake, data))
        assert str(read.segment("MSA")(1)) in ("AA", "AE", "AR")
        assert read.segment("MSH").extract_field(1, 9) == "ACK"


@pytest.mark.parametrize(
    ("data", "answered"),
    [
        (b"rubbish", "AR"),
        (message(header("ORM^O01", ""), PID), "AR"),
        (message(header("ORM^O01", version="3.0"), PID), "AR"),
        (orm("ZZ"), "AE"),
        (orm().replace(b"CT of the head", b"\xff\xfe"), "AA"),  # Latin-1, when none is named
        (message(header("ORM^O01", charset="KLINGON"), PID.replace("M", "ü")), "AE"),
    ],
)
def test_what_is_not_right_is_answered(intake, data, answered):
    assert tell(intake, data) == answered


def test_an_item_that_cannot_be_is_an_error_of_content(intake, worklist):
    data = omi(steps=[("S1", "MR", "A" * 17)])
    said = answer(intake, data)
    assert segment(said, "MSA")[1] == "AE"
    assert "ScheduledStationAETitle is longer than 16 characters" in segment(said, "MSA")[3]
    assert listed(worklist) == []


def test_a_message_waits_with_its_sender_while_the_index_is_away(intake, index):
    index.close()
    index.engine.dispose()
    with pytest.MonkeyPatch.context() as patched:

        def fail(*_: object) -> None:
            raise OSError(5, "Input/output error")

        patched.setattr(index, "transact", fail)
        said = answer(intake, orm())
    assert segment(said, "MSA")[1] == "AR"
    assert "207" in segment(said, "ERR")[1]
    assert "OSError" not in said


def test_each_message_has_a_line_and_a_count_and_neither_names_the_patient(
    intake, capfd, monkeypatch
):
    # Other tests have sent many messages from this address, and of a flood some lines are left out;
    # and tests of commands have set another level.
    monkeypatch.setattr("lfscp.hl7.intake.REQUESTS", RequestLines())
    configure("info")

    def counted(kind: str, code: str) -> float:
        return dict(metrics.HL7_MESSAGES.samples(metrics.BOARD.sums()))[kind, code]

    before = counted("ORM^O01", "AA"), counted("ORM^O01", "AE")
    tell(intake, orm(control_id="C7"))
    tell(intake, orm(modality="ZZ", control_id="C8"))
    assert (counted("ORM^O01", "AA"), counted("ORM^O01", "AE")) == (before[0] + 1, before[1] + 1)
    first, second = capfd.readouterr().err.splitlines()
    assert "HL7 message peer=192.0.2.7 control_id=C7 type=ORM^O01 items=1 answer=AA" in first
    assert "control_id=C8" in second
    assert "OBR-24: no modality that is known" in second
    for secret in ("4711", "ller", "1970"):
        assert secret not in first + second


def test_what_is_done_is_in_the_audit_trail(intake, tmp_path: Path):
    audit.start(tmp_path / "audit.log", "LFSCP")
    try:
        tell(intake, orm())
        tell(intake, orm("XO"))
        tell(intake, adt("A08", pid=NEW_PID))
        tell(intake, orm("CA"))
        tell(intake, orm(modality="ZZ"))
    finally:
        audit.stop()
    lines = (tmp_path / "audit.log").read_text(encoding="utf-8").splitlines()
    records: list[dict[str, Any]] = [json.loads(each) for each in lines]
    events = [each["EventIdentification"] for each in records]
    assert [each["EventActionCode"] for each in events] == ["C", "U", "U", "D"]
    assert {each["EventID"]["csd-code"] for each in events} == {"110111"}
    who = records[0]["ActiveParticipant"][0]
    assert (who["UserID"], who["NetworkAccessPointID"]) == ("HL7 RIS|RADIOLOGY", PEER)
    study, patient = records[2]["ParticipantObjectIdentification"]
    assert study["ParticipantObjectID"] == STUDY
    assert patient["ParticipantObjectName"] == "Maier^Jörg^K^Dr.^Jr PhD"


@pytest.fixture(scope="module")
def hardy(tmp_path_factory: pytest.TempPathFactory):
    """An intake that takes what hypothesis makes."""
    from lfscp.archive.index.database.database import sqlite_url

    index = Index(sqlite_url(tmp_path_factory.mktemp("index") / "index.sqlite"))
    yield Intake(WorklistSettings(**SETTINGS), index, "LFSCP")
    index.close()


ODD = ["", '""', "^", "~", "&", "\\", "\\X", "\\XFF\\", "2.25.1", "20261201", "NW", "CA", "CT", "é"]
PARTS = st.sampled_from([*ODD, "A" * 70, "\0", "1e9"])
BROKEN = st.lists(
    st.builds(
        lambda name, fields: f"{name}|{'|'.join(fields)}",
        st.sampled_from(["PID", "PV1", "ORC", "OBR", "TQ1", "IPC", "ZDS", "OBX", "AL1", "MRG"]),
        st.lists(st.builds("".join, st.lists(PARTS, max_size=4)), max_size=40),
    ),
    max_size=8,
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    kind=st.sampled_from(["ORM^O01", "OMI^O23", "ADT^A08", "ADT^A40"]),
    segments=BROKEN,
    is_begun=st.booleans(),
)
def test_no_message_is_too_odd_to_be_answered(hardy, kind, segments, is_begun):
    start = [PID, "ORC|NW|P1", "OBR|1"] if is_begun else []
    said = hardy.take(message(header(kind), *start, *segments), PEER).decode()
    assert segment(said, "MSA")[1] in ("AA", "AE", "AR")
    assert "internal error" not in said


@settings(deadline=None)
@given(st.binary(max_size=200), st.integers(0, 800), st.integers(0, 60))
def test_nor_one_with_bytes_changed(hardy, put, at, cut):
    good = omi()
    said = hardy.take(good[:at] + put + good[at + cut :], PEER)
    assert b"internal error" not in said
    assert b"MSA" in said
