"""The patient of a study, the study of a series: what an object says itself, as it came."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filereader import read_dataset

from lfscp.archive.archive import Archive, Duplicates, StoreOutcome
from lfscp.archive.errors import InstanceElsewhereError
from lfscp.archive.index.browsing import browse, study_pages
from lfscp.archive.query.query import Model, parse_query
from lfscp.archive.reindexing import read_every_object
from lfscp.dicom.values.attributes import Level
from tests.support.archive_datasets import EXPLICIT, received


@pytest.fixture
def archive(open_archive: Callable[..., Archive], tmp_path: Path) -> Iterator[Archive]:
    with open_archive(tmp_path, durability="os") as opened:
        yield opened


def store(archive: Archive, number: int, study: str, series: str = "", **values: Any) -> list[str]:
    """Store an object of a study and series; the notes."""
    series = series or f"{study}.1"
    uids = {"StudyInstanceUID": study, "SeriesInstanceUID": series}
    return list(archive.store(received(number, **uids, **values)).notes)


def find(archive: Archive, level: str, model: Model = Model.PATIENT_ROOT, **keys: Any) -> Any:
    """The answers to a relational query, each as the texts of its keys."""
    asked = Dataset()
    asked.QueryRetrieveLevel = level
    for keyword, value in keys.items():
        setattr(asked, keyword, value)
    query = parse_query(asked, model, relational=True)
    found = archive.find(query, transfer_syntax_uid=EXPLICIT, retrieve_ae_title="A")
    answers = [read_dataset(DicomBytesIO(each), False, True) for each in found]
    return sorted(tuple(str(answer[keyword].value) for keyword in keys) for answer in answers)


def by_uids(archive: Archive, **keys: str) -> int:
    """How many instances a retrieve of these unique keys sends."""
    levels = {
        "patient": Level.PATIENT,
        "study": Level.STUDY,
        "series": Level.SERIES,
    }
    wanted = {levels[name]: [value] for name, value in keys.items()}
    return len(archive.select(list(wanted)[-1], wanted))


def test_studies_without_patient_id_have_a_patient_each(archive: Archive) -> None:
    for number, name in enumerate(("Alpha^A", "Beta^B"), 1):
        assert store(archive, number, f"1.{number}", PatientID="", PatientName=name) == []
    for number, name in enumerate(("Alpha^A", "Beta^B"), 1):
        keys = {"StudyInstanceUID": "", "PatientName": name}
        assert find(archive, "STUDY", Model.STUDY_ROOT, **keys) == [(f"1.{number}", name)]
        assert find(archive, "PATIENT", PatientName=name) == [(name,)]
    assert find(
        archive, "PATIENT", PatientID="", PatientName="", NumberOfPatientRelatedStudies=""
    ) == [
        ("", "Alpha^A", "1"),
        ("", "Beta^B", "1"),
    ]
    assert archive.statistics().patients == 2


def test_a_study_shows_its_own_values_under_a_patient_id_that_others_have(archive: Archive) -> None:
    assert store(archive, 1, "1.1", PatientName="Doe^Jane", PatientBirthDate="19700101") == []
    (note,) = store(archive, 2, "1.2", PatientName="Roe^Richard", PatientBirthDate="19800202")
    assert "Patient ID" in note
    assert "Roe" not in note
    assert store(archive, 3, "1.2", PatientName="Roe^Richard", PatientBirthDate="19800202") == []
    keys = {"StudyInstanceUID": "", "PatientID": "P1", "PatientName": "", "PatientBirthDate": ""}
    assert find(archive, "STUDY", **keys) == [
        ("1.1", "P1", "Doe^Jane", "19700101"),
        ("1.2", "P1", "Roe^Richard", "19800202"),
    ]
    assert find(archive, "STUDY", StudyInstanceUID="", PatientName="roe*") == [
        ("1.2", "Roe^Richard")
    ]
    assert find(archive, "SERIES", SeriesInstanceUID="", PatientBirthDate="19800202") == [
        ("1.2.1", "19800202")
    ]


@pytest.mark.parametrize("name", ["Doe^Jane", "Roe^Richard", "R?e^*", "doe*"])
def test_a_patient_is_one_match_and_found_by_what_any_study_says(
    archive: Archive, name: str
) -> None:
    store(archive, 1, "1.1", PatientName="Doe^Jane")
    store(archive, 2, "1.2", PatientName="Roe^Richard")
    ((patient_id, studies, found),) = find(
        archive, "PATIENT", PatientID="", NumberOfPatientRelatedStudies="", PatientName=name
    )
    assert (patient_id, studies) == ("P1", "2")
    assert found == ("Doe^Jane" if name[0] in "Dd" else "Roe^Richard")


def test_a_patient_with_many_studies_counts_once_in_a_limit(archive: Archive) -> None:
    for number in range(6):
        store(archive, number, f"1.{number}", PatientID=f"P{number // 3}")
    asked = Dataset()
    asked.QueryRetrieveLevel, asked.PatientID = "PATIENT", ""
    query = parse_query(asked, Model.PATIENT_ROOT)
    options = {"transfer_syntax_uid": EXPLICIT, "retrieve_ae_title": "A"}
    assert len(list(archive.find(query, limit=2, **options))) == 2
    assert len(list(archive.find(query, limit=1, **options))) == 1


def test_the_same_id_of_two_issuers_is_two_patients(archive: Archive) -> None:
    for number, issuer in enumerate(("North", "South"), 1):
        store(archive, number, f"1.{number}", IssuerOfPatientID=issuer, PatientName=f"{issuer}^A")
    assert find(archive, "PATIENT", PatientID="P1", IssuerOfPatientID="", PatientName="") == [
        ("P1", "North", "North^A"),
        ("P1", "South", "South^A"),
    ]


def test_a_series_uid_of_two_studies_is_filed_under_each(archive: Archive) -> None:
    store(archive, 1, "1.1", "1.9", PatientID="P1")
    (note,) = store(archive, 2, "1.2", "1.9", PatientID="P2")
    assert "Series Instance UID" in note
    assert store(archive, 3, "1.2", "1.9", PatientID="P2") == []
    counts = {"SeriesInstanceUID": "1.9", "NumberOfSeriesRelatedInstances": ""}
    assert find(archive, "SERIES", StudyInstanceUID="1.1", **counts) == [("1.1", "1.9", "1")]
    assert find(archive, "SERIES", StudyInstanceUID="1.2", **counts) == [("1.2", "1.9", "2")]
    assert by_uids(archive, study="1.1", series="1.9") == 1
    assert by_uids(archive, patient="P2", study="1.2", series="1.9") == 2


def test_a_study_uid_of_two_patients_is_filed_under_each(archive: Archive) -> None:
    store(archive, 1, "1.1", PatientID="P1", PatientName="Doe^Jane")
    first, second = store(archive, 2, "1.1", PatientID="P2", PatientName="Roe^Richard")
    assert "Study Instance UID" in first
    assert "Series Instance UID" in second
    assert find(archive, "STUDY", StudyInstanceUID="1.1", PatientID="", PatientName="") == [
        ("1.1", "P1", "Doe^Jane"),
        ("1.1", "P2", "Roe^Richard"),
    ]
    assert by_uids(archive, patient="P2", study="1.1") == 1
    assert by_uids(archive, study="1.1") == 2


@pytest.mark.parametrize(
    "less",
    [
        {"PatientID": "", "PatientName": ""},
        {"PatientID": "", "PatientName": "DOE^JANE^^"},
        {"PatientID": "P1", "PatientName": "", "IssuerOfPatientID": ""},
    ],
)
def test_an_object_that_says_less_of_its_patient_belongs_to_its_study(
    archive: Archive, less: dict[str, str]
) -> None:
    store(archive, 1, "1.1", IssuerOfPatientID="North", PatientSex="F")
    assert store(archive, 2, "1.1", **less) == []
    assert archive.statistics().studies == archive.statistics().patients == 1
    assert by_uids(archive, patient="P1", study="1.1") == 2


def test_an_object_without_patient_id_and_with_another_name_does_not(archive: Archive) -> None:
    store(archive, 1, "1.1", PatientName="Doe^Jane")
    store(archive, 2, "1.1", PatientID="", PatientName="Roe^Richard")
    assert find(archive, "STUDY", PatientName="", PatientID="", StudyInstanceUID="1.1") == [
        ("Doe^Jane", "P1", "1.1"),
        ("Roe^Richard", "", "1.1"),
    ]


def test_names_in_other_scripts_or_spellings_are_no_conflict(archive: Archive) -> None:
    utf8 = {"SpecificCharacterSet": "ISO_IR 192"}
    store(archive, 1, "1.1", PatientName="Yamada^Tarou=山田^太郎", **utf8)
    for number, name in enumerate(("YAMADA^TAROU", "yamada^tarou^^", "=山田^太郎"), 2):
        assert store(archive, number, f"1.{number}", PatientName=name, **utf8) == []
    (note,) = store(archive, 9, "1.9", PatientName="Yamada^Tarou=山田^次郎", **utf8)
    assert "Patient ID" in note


def test_a_conflict_inside_a_study_is_noted_once_and_marked(archive: Archive) -> None:
    store(archive, 1, "1.1", PatientName="Doe^Jane")
    (note,) = store(archive, 2, "1.1", PatientName="Roe^Richard")
    assert "objects" in note
    for number in range(3, 6):
        name = "Doe^Jane" if number % 2 else "Roe^Richard"
        assert store(archive, number, "1.1", PatientName=name) == []
    with archive.index.engine.connect() as connection:
        (row,) = study_pages.studies(connection).rows
    assert (row["has_conflict"], row["patient_has_conflict"], row["shares_uid"]) == (1, 0, False)


def test_a_conflict_between_studies_is_marked_until_the_last_of_them_goes(archive: Archive) -> None:
    store(archive, 1, "1.1", PatientName="")  # says nothing yet, so the next one is the first
    store(archive, 2, "1.2", PatientName="Doe^Jane")
    store(archive, 3, "1.3", PatientName="Roe^Richard")

    def marks() -> dict[str, int]:
        with archive.index.engine.connect() as connection:
            rows = study_pages.studies(connection).rows
        return {row["study_instance_uid"]: row["patient_has_conflict"] for row in rows}

    assert marks() == {"1.1": 1, "1.2": 1, "1.3": 1}
    archive.delete(Level.STUDY, "1.2")
    with archive.index.engine.connect() as connection:
        (patient,) = browse.patients(connection).rows
    assert marks() == {"1.1": 0, "1.3": 0}
    assert patient["has_conflict"] == 0


def test_a_replaced_instance_moves_to_the_patient_that_it_names(
    open_archive: Callable[..., Archive], tmp_path: Path
) -> None:
    """A study that is sent again with a corrected Patient ID, instance by instance."""
    with open_archive(tmp_path, durability="os", duplicates=Duplicates.REPLACE) as archive:
        for number in (1, 2):
            store(archive, number, "1.1", PatientID="wrong")
        for number in (1, 2):
            uids = {"StudyInstanceUID": "1.1", "SeriesInstanceUID": "1.1.1"}
            stored = archive.store(received(number, PatientID="right", **uids))
            assert stored.outcome is StoreOutcome.REPLACED
        assert find(archive, "STUDY", PatientID="", StudyInstanceUID="") == [("right", "1.1")]
        assert by_uids(archive, patient="right", study="1.1") == 2


def test_deleting_by_key_leaves_the_other_of_the_same_uid(archive: Archive) -> None:
    store(archive, 1, "1.1", PatientID="P1")
    store(archive, 2, "1.1", PatientID="P2")
    with archive.index.engine.connect() as connection:
        keys = {row["patient_id"]: row["id"] for row in study_pages.studies(connection).rows}
    assert archive.delete(Level.STUDY, "1.1", key=keys["P1"]) == 1
    assert find(archive, "STUDY", PatientID="", StudyInstanceUID="") == [("P2", "1.1")]


def test_an_empty_key_deletes_nothing(archive: Archive) -> None:
    store(archive, 1, "1.1", PatientID="")
    assert archive.delete(Level.PATIENT, "") == 0
    assert archive.statistics().instances == 1


def test_what_an_object_adds_its_study_knows_whatever_came_first(archive: Archive) -> None:
    """An emergency: sent without a name, then without an ID, then with both."""
    store(archive, 1, "1.1", PatientID="", PatientName="")
    store(archive, 2, "1.1", PatientID="", PatientName="Doe^Jane")
    store(archive, 3, "1.1", PatientID="P1", PatientName="Doe^Jane", PatientSex="F")
    store(archive, 4, "1.1", PatientID="P1", IssuerOfPatientID="North")
    keys = {"PatientID": "", "IssuerOfPatientID": "", "PatientName": "", "PatientSex": ""}
    assert find(archive, "STUDY", **keys) == [("P1", "North", "Doe^Jane", "F")]
    assert find(archive, "PATIENT", **keys) == [("P1", "North", "Doe^Jane", "F")]
    assert archive.statistics().patients == 1
    assert by_uids(archive, patient="P1", study="1.1") == 4


def test_an_object_that_could_be_of_two_patients_is_of_neither(archive: Archive) -> None:
    store(archive, 1, "1.1", PatientID="P1")
    store(archive, 2, "1.1", PatientID="P2")
    store(archive, 3, "1.1", PatientID="", PatientName="")
    assert find(archive, "STUDY", PatientID="", PatientName="", StudyInstanceUID="1.1") == [
        ("", "", "1.1"),
        ("P1", "Doe^Jane", "1.1"),
        ("P2", "Doe^Jane", "1.1"),
    ]


def test_a_mark_stays_while_any_two_studies_disagree(archive: Archive) -> None:
    for number, name in enumerate(("", "Doe^Jane", "Roe^Richard", "Moe^Mary"), 1):
        store(archive, number, f"1.{number}", PatientName=name)
    archive.delete(Level.STUDY, "1.2")
    with archive.index.engine.connect() as connection:
        (patient,) = browse.patients(connection).rows
    assert patient["has_conflict"] == 1
    assert patient["patient_name"] in ("Roe^Richard", "Moe^Mary")


@pytest.mark.parametrize(
    ("stored", "again"),
    [
        ({"IssuerOfPatientID": "North"}, {"IssuerOfPatientID": "South"}),
        ({}, {"PatientID": "", "PatientName": "Anon"}),
        ({"PatientID": ""}, {"PatientID": "P1"}),
    ],
)
def test_an_instance_of_another_patient_is_not_taken_for_a_duplicate(
    archive: Archive, stored: dict[str, str], again: dict[str, str]
) -> None:
    store(archive, 1, "1.1", **stored)
    with pytest.raises(InstanceElsewhereError) as caught:
        store(archive, 1, "1.1", **again)
    assert caught.value.tag == 0x00100020


@pytest.mark.filterwarnings("ignore:The value length")
@pytest.mark.parametrize("patient_id", ["A\0B", "A\\B", " X ", "*", "é", "x" * 400])
def test_the_same_bytes_again_are_identical_whatever_the_patient_id(
    archive: Archive, patient_id: str
) -> None:
    values = {"PatientID": patient_id, "SpecificCharacterSet": "ISO_IR 192"}
    store(archive, 1, "1.1", **values)
    uids = {"StudyInstanceUID": "1.1", "SeriesInstanceUID": "1.1.1"}
    assert archive.store(received(1, **uids, **values)).outcome is StoreOutcome.IDENTICAL


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({"IssuerOfPatientID": "North"}, {"IssuerOfPatientID": "South"}),
        ({}, {"PatientID": "", "PatientName": "Anon"}),
        ({"PatientID": ""}, {"PatientID": "P1"}),
    ],
)
def test_a_replaced_instance_leaves_no_empty_study(
    open_archive: Callable[..., Archive],
    tmp_path: Path,
    before: dict[str, str],
    after: dict[str, str],
) -> None:
    with open_archive(tmp_path, durability="os", duplicates=Duplicates.REPLACE) as archive:
        store(archive, 1, "1.1", **before)
        store(archive, 1, "1.1", **after)
        assert archive.statistics().studies == archive.statistics().patients == 1
        wanted = {"PatientID": "P1", "PatientName": "Doe^Jane", "IssuerOfPatientID": ""} | after
        assert find(archive, "STUDY", **dict.fromkeys(wanted, "")) == [tuple(wanted.values())]


def test_a_study_says_what_its_objects_say_after_all_were_replaced(
    open_archive: Callable[..., Archive], tmp_path: Path
) -> None:
    with open_archive(tmp_path, durability="os", duplicates=Duplicates.REPLACE) as archive:
        for name in ("Wrong^Name", "Right^Name"):
            for number in (1, 2):
                store(archive, number, "1.1", PatientName=name)
        read_every_object(archive.index, archive.files)
        keys = {"StudyInstanceUID": "", "PatientName": "Right*"}
        assert find(archive, "STUDY", **keys) == [("1.1", "Right^Name")]
        assert marks(archive) == {"1.1": 0}


def test_a_study_says_what_its_objects_say_after_the_wrong_one_was_deleted(
    archive: Archive,
) -> None:
    store(archive, 1, "1.1", PatientName="Wrong^Name")
    store(archive, 2, "1.1", PatientName="Right^Name")
    store(archive, 3, "1.1", PatientName="Right^Name")
    archive.delete(Level.IMAGE, "1.2.3.1.1")
    read_every_object(archive.index, archive.files)
    assert find(archive, "STUDY", PatientName="") == [("Right^Name",)]
    assert marks(archive) == {"1.1": 0}


def marks(archive: Archive) -> dict[str, int]:
    """Whether the objects of each study are known to disagree."""
    with archive.index.engine.connect() as connection:
        rows = study_pages.studies(connection).rows
    return {row["study_instance_uid"]: row["has_conflict"] for row in rows}
