"""The audit trail names the patient concerned, also where patients share a Study Instance UID."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lfscp.archive.archive import Archive
from lfscp.dicom.values.attributes import Level
from lfscp.observe import audit
from lfscp.services.audit_events import Patients, ReceivedObjects, SentObjects, patient_of
from tests.support.archive_datasets import CT_IMAGE, received

HERE, SENDER = audit.AuditedPeer("LFSCP", "127.0.0.1"), audit.AuditedPeer("CT", "127.0.0.1")
DOE = {"PatientID": "P1", "PatientName": "Doe^Jane"}
ROE = {"PatientID": "P2", "PatientName": "Roe^Richard"}


@pytest.fixture
def archive(tmp_path: Path) -> Iterator[Archive]:
    with Archive.open(tmp_path / "archive", durability="os") as opened:
        yield opened


TRANSFERRED, DELETED = "110104", "110105"


def told(trail: Path, event: str = TRANSFERRED) -> list[tuple[str, str, int, int]]:
    """Patient ID, name, number of instances and of failures of each record of an event."""
    found = []
    for line in trail.read_text().splitlines():
        message = json.loads(line)
        if message["EventIdentification"]["EventID"]["csd-code"] != event:
            continue
        study, *patients = message["ParticipantObjectIdentification"]
        classes = study.get("ParticipantObjectDescription", {}).get("SOPClass", ())
        details = {each["type"]: each["value"] for each in study.get("ParticipantObjectDetail", ())}
        number = sum(each["NumberOfInstances"] for each in classes)
        failed = int(details.get("failed", 0))
        for each in patients or [{"ParticipantObjectID": "", "ParticipantObjectName": ""}]:
            name = each["ParticipantObjectName"]
            found.append((each["ParticipantObjectID"], name, number, failed))
    return sorted(found)


def store_all(archive: Archive, *patients: dict[str, str]) -> list[Any]:
    """Objects of one study, each of the patient that it names."""
    return [archive.store(received(at, **patient)) for at, patient in enumerate(patients)]


def record(archive: Archive, stored: list[Any]) -> None:
    noted = ReceivedObjects(SENDER, Patients(archive))
    for each in stored:
        noted.stored(each, CT_IMAGE)
    noted.write()


def test_what_is_stored_is_told_of_the_patient_that_each_object_names(
    archive: Archive, trail: Path
) -> None:
    stored = store_all(archive, DOE, ROE, ROE)
    record(archive, stored)
    record(archive, stored[:1])  # a patient's alone, after the other's

    assert told(trail) == [
        ("P1", "Doe^Jane", 1, 0),
        ("P1", "Doe^Jane", 1, 0),
        ("P2", "Roe^Richard", 2, 0),
    ]
    assert [patient_of(archive, each).patient_id for each in stored] == ["P1", "P2", "P2"]


def test_an_object_that_names_no_patient_is_told_of_its_study_s(
    archive: Archive, trail: Path
) -> None:
    nobody = {"PatientID": "", "PatientName": ""}
    nameless = {"PatientID": "P2", "PatientName": ""}
    record(archive, store_all(archive, DOE, nobody, ROE, nameless))

    assert told(trail) == [("P1", "Doe^Jane", 2, 0), ("P2", "Roe^Richard", 2, 0)]


def test_an_object_without_patient_is_recorded_though_it_is_gone(
    archive: Archive, trail: Path
) -> None:
    nobody = {"PatientID": "", "PatientName": ""}
    stored = store_all(archive, nobody, DOE)
    archive.delete(Level.STUDY, "1.2.3")
    record(archive, stored)

    assert told(trail) == [("", "", 1, 0), ("P1", "Doe^Jane", 1, 0)]


def test_what_is_sent_is_told_of_the_patient_whose_study_it_is(
    archive: Archive, trail: Path
) -> None:
    store_all(archive, DOE, {"PatientID": "", "PatientName": ""}, ROE, ROE)
    sent = SentObjects()
    for number, instance in enumerate(archive.select(Level.STUDY, {Level.STUDY: ["1.2.3"]})):
        sent.count(instance, failed=number == 3)
    sent.write(HERE, SENDER, archive)

    assert told(trail) == [("P1", "Doe^Jane", 2, 0), ("P2", "Roe^Richard", 1, 1)]


def test_what_is_sent_and_gone_since_is_told_of_all_whose_it_may_have_been(
    archive: Archive, trail: Path
) -> None:
    store_all(archive, DOE, DOE, ROE)
    sent = SentObjects()
    sent.count(archive.select(Level.STUDY, {Level.STUDY: ["1.2.3"]})[0], failed=False)
    archive.delete(Level.IMAGE, "1.2.3.1.0")
    sent.write(HERE, SENDER, archive)

    assert told(trail) == [("P1", "Doe^Jane", 1, 0), ("P2", "Roe^Richard", 1, 0)]


def test_a_long_retrieve_is_recorded_piece_by_piece(archive: Archive, trail: Path) -> None:
    store_all(archive, DOE)
    (instance,) = archive.select(Level.STUDY, {Level.STUDY: ["1.2.3"]})
    sent = SentObjects()
    for number in range(2500):
        sent.count(instance, failed=number % 1000 == 0)
        if sent.is_due:
            sent.write(HERE, SENDER, archive)
    sent.write(HERE, SENDER, archive)
    sent.write(HERE, SENDER, archive)  # there is no more

    assert sorted(each[2:] for each in told(trail)) == [(499, 1), (999, 1), (999, 1)]


def test_a_deletion_is_told_for_each_patient_with_what_goes_of_it(
    archive: Archive, trail: Path
) -> None:
    store_all(archive, DOE, ROE, ROE)
    assert archive.delete(Level.STUDY, "1.2.3") == 3

    assert told(trail, DELETED) == [("P1", "Doe^Jane", 1, 0), ("P2", "Roe^Richard", 2, 0)]


def test_a_deletion_of_one_of_the_studies_is_told_of_its_patient_alone(
    archive: Archive, trail: Path
) -> None:
    store_all(archive, DOE, ROE, ROE)
    with archive.index.engine.connect() as connection:
        asked = "SELECT id FROM study WHERE patient_id = 'P2'"
        key = connection.exec_driver_sql(asked).scalar_one()
    archive.delete(Level.STUDY, "1.2.3", key=key)

    assert told(trail, DELETED) == [("P2", "Roe^Richard", 2, 0)]
