"""What a device sees of an order: the table of config/hl7.md, on messages of several systems."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydicom.dataset import Dataset

from lfscp.archive.workflow.worklist.worklist import complete_item
from lfscp.dicom.models.element_tree import dataset_of
from lfscp.hl7 import mapping
from lfscp.hl7.errors import MessageError
from lfscp.hl7.message import read_message
from lfscp.hl7.orders import groups_of, items_of
from lfscp.hl7.stations import Stations
from tests.support.hl7_messages import PID, PV1, STUDY, header, message, omi, orm

STATIONS = Stations(["KNOCHEN=NM"], ["CT=CT01,CT02", "US=US01", "*=ROOM1"])
DOCUMENT = Path(__file__).parents[3] / "config/hl7.md"


def items(data: bytes) -> list[Dataset]:
    """The worklist items of a message, as a device would see them."""
    found = items_of(groups_of(read_message(data)), STATIONS)
    return [dataset_of(complete_item(each.dataset, each.given)) for each in found]


def item(data: bytes) -> Dataset:
    """The only one."""
    (found,) = items(data)
    return found


def simple(*changes: tuple[str, int, str], extra: tuple[str, ...] = ()) -> bytes:
    """A small order of a system that knows no IHE, with other fields: segment, number, text."""
    segments = {
        "PID": ["PID", "", "", "900", "", "Doe^Jane", "", "1970", "F"],
        "PV1": ["PV1"],
        "ORC": ["ORC", "NW", "1001"],
        "OBR": [
            "OBR",
            "1",
            "1001",
            "",
            "US1^Abdomen",
            *[""] * 19,
            "US",
            *[""] * 11,
            "202612031100",
        ],
    }
    for name, number, text in changes:
        fields = segments[name]
        fields += [""] * (number + 1 - len(fields))
        fields[number] = text
    return message(
        header("ORM^O01", version="2.3"), *("|".join(each) for each in segments.values()), *extra
    )


def test_the_order_of_a_filler_as_ihe_has_it_in_hl7_2_3_1():
    found = item(orm())
    step = found.ScheduledProcedureStepSequence[0]
    assert found.PatientName == "Müller^Jörg^K^Dr.^Jr PhD"
    assert (found.PatientID, found.IssuerOfPatientID) == ("4711", "HOSP")
    assert (found.PatientBirthDate, found.PatientSex) == ("19700102", "M")
    assert found.PatientWeight == 72.5
    assert found.Allergies == "Iodine"
    assert found.MedicalAlerts == "Pacemaker"
    assert found.PatientState == "ambulatory"
    assert found.AdmissionID == "V-2001"
    assert found.CurrentPatientLocation == "W3 12 B HOSP"
    assert found.ReferringPhysicianName == "Grey^Meredith"
    assert found.AccessionNumber == "A300"
    assert found.StudyInstanceUID == STUDY
    assert found.RequestedProcedureID == "RP1"
    assert found.RequestedProcedureDescription == "CT of the head"
    code = found.RequestedProcedureCodeSequence[0]
    assert (code.CodeValue, code.CodingSchemeDesignator) == ("CT1", "RIS")
    assert code.CodeMeaning == "CT of the head"
    assert found.RequestedProcedurePriority == "STAT"
    assert found.ReasonForTheRequestedProcedure == "Headache & nausea"
    assert found.RequestedProcedureComments == "Please call before"
    assert found.PatientTransportArrangements == "WALK"
    assert found.RequestingPhysician == "House^Gregory"
    assert found.OrderEnteredBy == "Nurse^Nora"
    assert found.PlacerOrderNumberImagingServiceRequest == "P100"
    assert found.FillerOrderNumberImagingServiceRequest == "F200"
    assert found.IssueDateOfImagingServiceRequest == "20261127"
    assert found.IssueTimeOfImagingServiceRequest == "100000"
    assert step.ScheduledStationAETitle == ["CT01", "CT02"]
    assert step.Modality == "CT"
    assert step.ScheduledProcedureStepStartDate == "20261201"
    assert step.ScheduledProcedureStepStartTime == "103000"
    assert step.ScheduledProcedureStepID == "SPS1"
    assert step.ScheduledProcedureStepDescription == "CT head routine"
    assert step.ScheduledProtocolCodeSequence[0].CodeValue == "CTHEAD"
    assert step.ScheduledPerformingPhysicianName == "Tech^Tina"
    assert step.ScheduledProcedureStepStatus == "SCHEDULED"


def test_the_order_of_a_filler_as_ihe_has_it_in_hl7_2_5_1():
    found = item(omi())
    assert found.PatientName == "Yamada^Tarou=山田^太郎=やまだ^たろう"
    issuer = found.IssuerOfPatientIDQualifiersSequence[0]
    assert (issuer.UniversalEntityID, issuer.UniversalEntityIDType) == ("1.2.3.4", "ISO")
    assert "IssuerOfPatientID" not in found
    assert found.PregnancyStatus == 3
    assert (found.AccessionNumber, found.RequestedProcedureID) == ("A400", "RP9")
    assert found.StudyInstanceUID == f"{STUDY}.9"
    assert found.RequestedProcedureCodeSequence[0].CodeValue == "MRK"
    assert found.RequestedProcedurePriority == "HIGH"
    assert found.RequestingService == "Surgery"
    assert found.ReasonForTheRequestedProcedure == "Pain"
    assert "IssueTimeOfImagingServiceRequest" not in found
    first, second = found.ScheduledProcedureStepSequence
    assert (first.ScheduledStationAETitle, second.ScheduledStationAETitle) == ("MR01", "MR02")
    assert (first.ScheduledProcedureStepID, second.ScheduledProcedureStepID) == ("SPS1", "SPS2")
    assert first.ScheduledProcedureStepStartTime == "090000"
    assert first.ScheduledProtocolCodeSequence[0].CodeValue == "MRKNEE"
    assert first.ScheduledProcedureStepDescription == "Knee routine"
    assert (first.ScheduledStationName, first.ScheduledProcedureStepLocation) == (
        "STATION SPS1",
        "Room 4",
    )


def test_what_a_small_order_lacks_is_made_from_its_number_and_always_the_same():
    first, second = item(simple()), item(simple(("OBR", 36, "202612051200")))
    assert first.StudyInstanceUID == second.StudyInstanceUID
    assert first.StudyInstanceUID.startswith("2.25.")
    assert first.RequestedProcedureID == second.RequestedProcedureID
    for each in (first, second):
        assert each.ScheduledProcedureStepSequence[0].ScheduledProcedureStepID
    ids = [
        each.ScheduledProcedureStepSequence[0].ScheduledProcedureStepID for each in (first, second)
    ]
    assert ids[0] == ids[1]
    other = item(simple(("ORC", 2, "1002"), ("OBR", 2, "1002")))
    assert other.StudyInstanceUID != first.StudyInstanceUID
    assert "PatientBirthDate" not in first  # a year is no date
    assert "AccessionNumber" not in first


def test_a_filler_order_number_is_the_accession_number_when_there_is_none():
    assert item(simple(("ORC", 3, "F77^RIS"))).AccessionNumber == "F77"
    assert "AccessionNumber" not in item(simple(("ORC", 3, "F" * 17)))
    assert item(simple(("ORC", 3, "F77"), ("OBR", 18, "A1"))).AccessionNumber == "A1"


def test_orders_of_one_step_add_their_protocol_codes():
    first, second = (orm(protocol=f"P{n}^Protocol {n}^RIS").split(b"\rZDS")[0] for n in (1, 2))
    both = first + b"\r" + second[second.index(b"ORC|") :] + f"\rZDS|{STUDY}\r".encode()
    (step,) = item(both).ScheduledProcedureStepSequence
    assert [each.CodeValue for each in step.ScheduledProtocolCodeSequence] == ["P1", "P2"]


def test_orders_of_one_procedure_are_its_steps_and_those_of_others_other_items():
    def order(**said: Any) -> bytes:
        data = orm(**said).split(b"\rZDS")[0]
        return data[data.index(b"ORC|") :]

    start = orm().split(b"\rORC|")[0]
    orders = [order(step="S1"), order(step="S2", at="202612021200")]
    orders.append(order(step="S3", procedure="RP2"))
    found = items(b"\r".join([start, *orders]) + b"\r")
    steps = [
        [step.ScheduledProcedureStepID for step in each.ScheduledProcedureStepSequence]
        for each in found
    ]
    assert steps == [["S1", "S2"], ["S3"]]
    assert found[0].StudyInstanceUID != found[1].StudyInstanceUID


@pytest.mark.parametrize(
    ("said", "modality", "station"),
    [
        ("CT", "CT", ["CT01", "CT02"]),
        ("MR", "MR", "ROOM1"),
        ("RUS", "US", "US01"),
        ("nmr", "MR", "ROOM1"),
        ("Knochen^Szintigramm", "NM", "ROOM1"),
    ],
)
def test_modality_and_station(said, modality, station):
    step = item(orm(modality=said)).ScheduledProcedureStepSequence[0]
    assert (step.Modality, step.ScheduledStationAETitle) == (modality, station)


@pytest.mark.parametrize(
    ("field", "text", "keyword", "value"),
    [
        (("PID", 5), "O'Neil^Ann \\S\\ B", "PatientName", "O'Neil^Ann B"),
        (("PID", 5), "von Berg&von&Berg^Ute", "PatientName", "von Berg^Ute"),
        (("PID", 5), "Alias^A^^^^^A~Legal^L^^^^^L", "PatientName", "Legal^L"),
        (("PID", 5), "A\\E\\B^C=D", "PatientName", "A B^C D"),
        (("PID", 8), "A", "PatientSex", "O"),
        (("PID", 8), "U", "PatientSex", None),
        (("PID", 8), '""', "PatientSex", None),
        (("PID", 7), "197001021230", "PatientBirthDate", "19700102"),
        (("PID", 3), "1^^^A^SS~2^^^B^MR", "PatientID", "2"),
        (("PID", 3), "~2^^^B", "PatientID", "2"),
        (("PID", 18), "ACC9^^^H", "AdmissionID", "ACC9"),
        (("OBR", 4), "X^Head & \\T\\ more^L", "RequestedProcedureDescription", "Head & & more"),
        (("OBR", 4), "^Path C:\\E\\x^L", "RequestedProcedureDescription", "Path C:/x"),
        (("OBR", 4), "X^" + "y" * 80, "RequestedProcedureDescription", "y" * 64),
        (("OBR", 31), "R07^Chest pain^I10~R08^x", "ReasonForTheRequestedProcedure", "Chest pain"),
        (("OBR", 28), "1^A^M~2^B^G", "NamesOfIntendedRecipientsOfResults", ["A^M", "B^G"]),
        (("OBR", 5), "A", "RequestedProcedurePriority", "HIGH"),
    ],
)  # fmt: skip
def test_fields(field, text, keyword, value):
    assert item(simple((*field, text))).get(keyword) == value


@pytest.mark.parametrize(
    ("value", "unit", "weight"),
    [
        ("70", "kg", 70),
        ("70,5", "", 70.5),
        ("150", "lb", 68.0389),
        ("-1", "kg", None),
        ("1", "st", None),
        ("x", "kg", None),
    ],
)
def test_weights(value, unit, weight):
    found = item(simple(extra=(f"OBX|1|NM|29463-7^Body weight^LN||{value}|{unit}",)))
    assert found.get("PatientWeight") == weight


@pytest.mark.parametrize(
    ("fields", "stamp", "date", "time"),
    [
        ([("ORC", 7)], "^^^20261204", "20261204", "000000"),
        ([("OBR", 27)], "^^^2026120408^^S", "20261204", "080000"),
        ([("OBR", 36)], "20261204080930.1234", "20261204", "080930"),
        ([("OBR", 36)], "20261231235960", "20261231", "235959"),
    ],
)
def test_times(fields, stamp, date, time):
    found = item(simple(("OBR", 36, ""), *((*field, stamp) for field in fields)))
    step = found.ScheduledProcedureStepSequence[0]
    assert step.ScheduledProcedureStepStartDate == date
    assert step.ScheduledProcedureStepStartTime == time


def test_a_time_with_an_offset_is_shown_on_the_clock_of_the_node(monkeypatch):
    import time

    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    try:
        step = item(simple(("OBR", 36, "20261203233000-0500"))).ScheduledProcedureStepSequence[0]
    finally:
        monkeypatch.undo()
        time.tzset()
    assert step.ScheduledProcedureStepStartDate == "20261204"
    assert step.ScheduledProcedureStepStartTime == "053000"


@pytest.mark.parametrize(
    ("changes", "code", "place"),
    [
        ([("PID", 3, "")], 101, "PID-3"),
        ([("PID", 5, "^^")], 101, "PID-5"),
        ([("PID", 7, "1970-01-02")], 102, "PID-7"),
        ([("PID", 3, "1" * 65)], 102, "PID-3"),
        ([("ORC", 1, "")], 101, "ORC-1"),
        ([("ORC", 2, ""), ("OBR", 2, "")], 101, "ORC-2"),
        ([("OBR", 18, "A" * 17)], 102, "OBR-18"),
        ([("OBR", 24, "")], 101, "OBR-24"),
        ([("OBR", 24, "ZZ")], 103, "OBR-24"),
        ([("OBR", 36, "")], 101, "ORC-7.4"),
        ([("OBR", 36, "20261332")], 102, "OBR-36"),
        ([("OBR", 36, "2026")], 102, "OBR-36"),
        ([("ORC", 7, "^^^tomorrow")], 102, "ORC-7.4"),
    ],
)
def test_what_is_wrong_is_said_with_its_place(changes, code, place):
    with pytest.raises(MessageError) as refused:
        items(simple(*changes))
    assert (refused.value.answer, refused.value.code) == ("AE", code)
    assert str(refused.value.place) == place


def test_without_a_station_the_order_is_refused():
    data = simple()
    with pytest.raises(MessageError, match=r"no station for US; see worklist\.hl7_stations"):
        items_of(groups_of(read_message(data)), Stations())


@pytest.mark.parametrize("study", ["1.2.x", "1..2", "1.02", "." * 3, "1." + "2" * 64])
def test_a_study_that_is_no_uid_is_refused(study):
    with pytest.raises(MessageError, match="ZDS-1: is not a UID"):
        items(orm(study=study))


@pytest.mark.parametrize(
    ("segments", "reason"),
    [
        ([PID], "no order in the message"),
        ([PID, PV1, "OBR|1|1"], "no ORC before it"),
        ([PID, "ORC|NW|1"], "no OBR after it"),
        (["ORC|NW|1", "OBR|1|1||||||||||||||||||||||CT|||1^^^202612011200"], "PID"),
        ([PID, *["ORC|NW|1", "OBR|1|1"] * 101], "more than 100 orders"),
    ],
)
def test_segments_that_are_missing(segments, reason):
    with pytest.raises(MessageError, match=reason):
        items(message(header("ORM^O01"), *segments))


def test_the_table_of_the_document_is_that_of_the_code():
    assert mapping.markdown() in DOCUMENT.read_text(encoding="utf-8"), (
        'print it: python -c "from lfscp.hl7.mapping import markdown; print(markdown())"'
    )
