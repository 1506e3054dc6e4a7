"""Corrections of patients and studies: all rows at once, the old objects kept, undone exactly."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from pydicom import dcmread
from sqlalchemy import delete, insert, select

from lfscp.archive.archive import Archive, StoreOutcome
from lfscp.archive.correctable import Asked
from lfscp.archive.correcting import (
    Correction,
    CorrectionError,
    confirm,
    require_changes,
    undo,
)
from lfscp.archive.errors import ArchiveError, StudyProtectedError
from lfscp.archive.index import correction_states
from lfscp.archive.index.browsing import browse
from lfscp.archive.index.correction_states import CorrectionEndedError
from lfscp.archive.index.tables.correction_tables import kept_object
from lfscp.archive.index.tables.maintenance_tables import removal
from lfscp.archive.index.tables.schema import instance, patient, study
from lfscp.archive.upkeep.check import check
from lfscp.cli.correct import _perform
from lfscp.cli.errors import CommandError
from lfscp.config import Settings
from lfscp.dicom.values.attributes import Level
from tests.support.archive_datasets import received


@pytest.fixture(params=["sqlite", "postgresql"])
def index_url(request: pytest.FixtureRequest) -> str | None:
    return request.getfixturevalue("postgresql_url") if request.param == "postgresql" else None


@pytest.fixture
def archive(index_url: str | None, tmp_path: Path) -> Iterator[Archive]:
    with Archive.open(tmp_path / "data", index_url=index_url, durability="os") as opened:
        yield opened


def rows(archive: Archive, table: Any = study) -> list[dict[str, Any]]:
    with archive.index.engine.connect() as connection:
        return [dict(row) for row in connection.execute(select(table).order_by("id")).mappings()]


def key_of(archive: Archive, uid: str = "1.2.3") -> int:
    with archive.index.engine.connect() as connection:
        found = browse.study_row(connection, uid)
    assert found is not None
    return int(found["id"])


def objects(archive: Archive) -> dict[str, Any]:
    return {
        row["sop_instance_uid"]: dcmread(archive.files.path(row["path"]))
        for row in rows(archive, instance)
    }


def correct(archive: Archive, keys: list[int], name: str = "c1", **changes: str) -> Correction:
    made = Correction(archive, name, require_changes(changes), "LFSCP", "admin")
    made.begin()
    for key in keys:
        made.correct(key)
    made.end()
    return made


def state(archive: Archive) -> Any:
    """All that a correction may change, but for the keys of rows."""
    without = ("id", "patient_id_fk", "study_fk", "series_fk")
    found = [
        sorted(
            str({name: row[name] for name in row if name not in without})
            for row in rows(archive, table)
        )
        for table in (patient, study, instance)
    ]
    return found, {path: archive.files.path(path).read_bytes() for path in archive.files.walk()}


def findings(archive: Archive) -> list[str]:
    return [str(each) for each in check(archive)]


def store(archive: Archive, *numbers: int, **values: Any) -> None:
    for number in numbers:
        archive.store(received(number, **values))


def test_a_name_is_corrected_in_objects_and_rows(archive: Archive) -> None:
    store(archive, 1, 2, PatientBirthDate="19700101")
    correct(archive, [key_of(archive)], PatientName="Roe^Mary", StudyDescription="Knee")
    (row,) = rows(archive)
    assert (row["patient_name"], row["patient_name_search"]) == ("Roe^Mary", "roe^mary")
    assert (row["study_description"], row["patient_birth_date"]) == ("Knee", "19700101")
    assert rows(archive, patient)[0]["patient_name"] == "Roe^Mary"
    for found in objects(archive).values():
        assert (found.PatientName, found.StudyDescription) == ("Roe^Mary", "Knee")
        assert found.OriginalAttributesSequence[0].ReasonForTheAttributeModification == "CORRECT"
        assert found.PixelData == b"\0" * 64
    assert not findings(archive)


def test_a_study_goes_to_another_patient_and_back(archive: Archive) -> None:
    store(archive, 1, 2)
    before = state(archive)
    correct(archive, [key_of(archive)], PatientID="P9", PatientName="Roe^Mary")
    assert [each["patient_id"] for each in rows(archive, patient)] == ["P9"]
    assert [each["patient_id"] for each in rows(archive)] == ["P9"]
    assert {str(each.PatientID) for each in objects(archive).values()} == {"P9"}
    undo(archive, "c1")
    assert state(archive) == before
    assert not findings(archive)


@pytest.mark.parametrize(
    "changes",
    [
        {"PatientName": "Roe^Mary"},
        {"PatientName": "山田^太郎", "AccessionNumber": "A77"},
        {"PatientID": "", "IssuerOfPatientID": ""},
        {"PatientID": "P2", "IssuerOfPatientID": "HOSPITAL", "PatientSex": "F"},
        {"PatientBirthDate": "", "StudyDescription": ""},
    ],
    ids=str,
)
def test_what_is_undone_is_as_it_was(archive: Archive, changes: dict[str, str]) -> None:
    store(archive, 1, 2, IssuerOfPatientID="X", PatientBirthDate="19700101")
    store(archive, 3, StudyInstanceUID="1.2.4", SeriesInstanceUID="1.2.4.1")
    before = state(archive)
    correct(archive, [key_of(archive)], **changes)
    assert state(archive) != before
    for keyword, value in changes.items():
        assert {str(each.get(keyword, "")) for each in objects(archive).values()} >= {value}
    undo(archive, "c1")
    assert state(archive) == before


def test_two_patients_become_one_and_are_two_again(archive: Archive) -> None:
    store(archive, 1)
    for number in (2, 3):
        uid = f"1.2.{number + 10}"
        store(
            archive,
            number,
            StudyInstanceUID=uid,
            SeriesInstanceUID=f"{uid}.1",
            PatientID="P2",
            PatientName="Doe^J",
        )
    before = state(archive)
    keys = [row["id"] for row in rows(archive) if row["patient_id"] == "P2"]
    correct(archive, keys, PatientID="P1", PatientName="Doe^Jane")
    assert [each["patient_id"] for each in rows(archive, patient)] == ["P1"]
    assert not rows(archive, patient)[0]["has_conflict"]
    assert [each["patient_id"] for each in rows(archive)] == ["P1"] * 3
    undo(archive, "c1")
    assert state(archive) == before


def test_parts_of_a_study_that_were_two_patients_become_one_study(archive: Archive) -> None:
    store(archive, 1, StudyDescription="Head")
    store(archive, 2, PatientID="WRONG", PatientName="Typo^T", StudyDescription="Other")
    assert len(rows(archive)) == 2
    before = state(archive)
    (wrong,) = [row["id"] for row in rows(archive) if row["patient_id"] == "WRONG"]
    correct(archive, [wrong], PatientID="P1", PatientName="Doe^Jane")
    (row,) = rows(archive)
    assert (row["patient_id"], row["study_description"]) == ("P1", "Head")
    assert len(archive.select(Level.STUDY, {Level.STUDY: ["1.2.3"]})) == 2
    undo(archive, "c1")
    assert state(archive) == before


def test_old_objects_are_counted_until_they_are_confirmed(archive: Archive) -> None:
    store(archive, 1, 2)
    before = archive.statistics().size
    correct(archive, [key_of(archive)], PatientName="Roe^Mary")
    files = [archive.files.path(path) for path in archive.files.walk()]
    assert len(files) == 4
    assert archive.statistics().size == sum(file.stat().st_size for file in files) > before
    confirm(archive, "c1")
    files = [archive.files.path(path) for path in archive.files.walk()]
    assert len(files) == 2
    assert archive.statistics().size == sum(file.stat().st_size for file in files)
    assert {str(each.PatientName) for each in objects(archive).values()} == {"Roe^Mary"}


def test_an_old_object_stays_though_its_name_was_another_files_that_is_to_go(
    archive: Archive,
) -> None:
    store(archive, 1)
    before = state(archive)
    correct(archive, [key_of(archive)], PatientName="Roe^Mary")
    (old,) = rows(archive, kept_object)
    with archive.index.engine.begin() as connection:
        connection.execute(insert(removal).values(path=old["path"], removed_at=1))
    archive.finish_removals()
    undo(archive, "c1")
    assert state(archive) == before


def test_old_objects_go_when_their_study_is_deleted(archive: Archive) -> None:
    store(archive, 1, 2)
    correct(archive, [key_of(archive)], PatientName="Roe^Mary")
    assert archive.delete(Level.STUDY, "1.2.3") == 2
    assert not list(archive.files.walk())
    assert not rows(archive, kept_object)
    undo(archive, "c1")  # there is nothing to bring back
    assert not rows(archive)


def test_a_protected_study_is_refused(archive: Archive) -> None:
    store(archive, 1)
    archive.set_protected("1.2.3", on=True)
    before = state(archive)
    with pytest.raises(StudyProtectedError):
        correct(archive, [key_of(archive)], PatientName="Roe^Mary")
    assert state(archive) == before
    archive.set_protected("1.2.3", on=False)
    correct(archive, [key_of(archive)], PatientName="Roe^Mary")
    archive.set_protected("1.2.3", on=True)
    with pytest.raises(StudyProtectedError):
        undo(archive, "c1")


def test_an_object_that_comes_meanwhile_is_corrected_as_well(archive: Archive) -> None:
    store(archive, 1)
    seen: list[int] = []

    def look(size: int) -> None:
        seen.append(size)
        if len(seen) == 1:
            store(archive, 2)

    made = Correction(archive, "c1", {"PatientID": "P9"}, "LFSCP", look=look)
    made.begin()
    assert made.correct(key_of(archive)) == 2
    assert len(seen) == 2
    assert {str(each.PatientID) for each in objects(archive).values()} == {"P9"}


def test_an_object_that_comes_afterwards_goes_to_the_patient_that_it_names(
    archive: Archive,
) -> None:
    store(archive, 1)
    correct(archive, [key_of(archive)], PatientID="P9")
    store(archive, 2)
    assert sorted(each["patient_id"] for each in rows(archive)) == ["P1", "P9"]


@pytest.mark.parametrize("changes", [{"PatientID": "P9"}, {"PatientName": "Roe^Mary"}], ids=str)
@pytest.mark.parametrize("duplicates", ["keep", "replace", "reject"])
def test_an_old_object_that_is_sent_again_does_not_undo_a_correction(
    tmp_path: Path, changes: dict[str, str], duplicates: str
) -> None:
    with Archive.open(tmp_path / "data", durability="os", duplicates=duplicates) as archive:
        store(archive, 1)
        correct(archive, [key_of(archive)], **changes)
        before = state(archive)
        assert archive.store(received(1)).outcome is StoreOutcome.KEPT
        assert state(archive) == before


def test_a_correction_that_is_stopped_leaves_nothing(archive: Archive) -> None:
    store(archive, 1, 2)
    before = state(archive)

    def stop(size: int) -> None:
        raise InterruptedError("stopped")

    made = Correction(archive, "c1", {"PatientName": "Roe^Mary"}, "LFSCP", look=stop)
    made.begin()
    with pytest.raises(ArchiveError):
        made.correct(key_of(archive))
    assert state(archive) == before
    assert not [path for path in archive.files.incoming.iterdir() if path.is_file()]


def test_a_correction_is_done_once(archive: Archive) -> None:
    store(archive, 1)
    made = correct(archive, [key_of(archive)], PatientName="Roe^Mary")
    before = state(archive)
    assert made.correct(key_of(archive)) == 0
    assert state(archive) == before


def test_corrections_follow_each_other_and_each_is_kept_in_the_object(archive: Archive) -> None:
    store(archive, 1)
    correct(archive, [key_of(archive)], PatientName="Roe^Mary")
    second = state(archive)
    correct(archive, [key_of(archive)], "c2", PatientName="Moe^Ann")
    (found,) = objects(archive).values()
    items = found.OriginalAttributesSequence
    names = [str(each.ModifiedAttributesSequence[0].PatientName) for each in items]
    assert names == ["Doe^Jane", "Roe^Mary"]
    undo(archive, "c2")
    assert state(archive) == second


def test_the_last_of_two_corrections_is_undone_first(archive: Archive) -> None:
    store(archive, 1)
    correct(archive, [key_of(archive)], PatientName="Roe^Mary")
    correct(archive, [key_of(archive)], "c2", PatientName="Moe^Ann")
    before = state(archive)
    with pytest.raises(ArchiveError, match="have changed since"):
        undo(archive, "c1")
    assert state(archive) == before
    confirm(archive, "c1")
    undo(archive, "c2")
    assert {str(each.PatientName) for each in objects(archive).values()} == {"Roe^Mary"}


@pytest.mark.parametrize("first", [confirm, undo])
@pytest.mark.parametrize("then", [confirm, undo])
def test_what_was_confirmed_or_undone_is_so_for_good(
    archive: Archive, first: Callable[..., None], then: Callable[..., None]
) -> None:
    store(archive, 1)
    made = correct(archive, [key_of(archive)], PatientName="Roe^Mary")
    first(archive, "c1")
    before = state(archive)
    for again in (lambda: then(archive, "c1"), made.begin):
        with pytest.raises(CorrectionEndedError, match="already"):
            again()
    made.end()
    with archive.index.engine.connect() as connection:
        (told,) = correction_states.list_corrections(connection)
    assert told["state"] == ("confirmed" if first is confirm else "undone")
    assert state(archive) == before


def test_an_object_that_another_node_is_about_to_commit_is_corrected_as_well(
    archive: Archive, index_url: str | None
) -> None:
    if index_url is None:
        pytest.skip("SQLite has one writer")
    store(archive, 1, 2)
    _, second = rows(archive, instance)
    with archive.index.engine.begin() as connection:
        connection.execute(delete(instance).where(instance.c.id == second["id"]))
    made = Correction(archive, "c1", {"PatientName": "Roe^Mary"}, "LFSCP")
    made.begin()
    with ThreadPoolExecutor(1) as other, archive.index.engine.connect() as connection:
        connection.execute(insert(instance).values(second))
        corrected = other.submit(made.correct, key_of(archive))
        with suppress(TimeoutError):
            corrected.result(1)
        connection.commit()
        assert corrected.result(30) == 2
    assert {str(each.PatientName) for each in objects(archive).values()} == {"Roe^Mary"}


def test_what_was_is_told(archive: Archive) -> None:
    store(archive, 1, 2)
    correct(archive, [key_of(archive)], PatientName="Roe^Mary")
    with archive.index.engine.connect() as connection:
        (found,) = correction_states.list_corrections(connection)
    assert (found["state"], found["user"]) == ("to confirm", "admin")
    assert found["changes"] == {"PatientName": "Roe^Mary"}
    (each,) = found["studies"]
    assert (each["before"]["patient_name"], each["after"]["patient_name"]) == (
        "Doe^Jane",
        "Roe^Mary",
    )
    assert each["instances"] == 2


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, "changes: expected something"),
        ({"SOPInstanceUID": "1.2"}, "one of PatientName"),
        ({"PatientBirthDate": "1970"}, "VR DA"),
        ({"PatientSex": "X"}, "F, M, O"),
        ({"PatientID": "a\\b"}, "without a backslash"),
        ({"PatientName": "x" * 65}, "VR PN"),
        ({"AccessionNumber": "x" * 17}, "VR SH"),
        ({"PatientID": 7}, "one text"),
    ],
)
def test_what_cannot_be_is_refused(changes: dict[str, Any], expected: str) -> None:
    with pytest.raises(CorrectionError, match=expected):
        require_changes(changes)


def two_studies(archive: Archive) -> list[int]:
    store(archive, 1, 2)
    store(archive, 3, StudyInstanceUID="1.2.4", SeriesInstanceUID="1.2.4.1")
    return [key_of(archive), key_of(archive, "1.2.4")]


def running(archive: Archive, **more: Any) -> Correction:
    made = Correction(archive, "c1", {"PatientName": "Roe^Mary"}, "LFSCP", "admin", **more)
    made.begin()
    return made


def test_a_correction_that_is_undone_while_it_runs_corrects_nothing_more(archive: Archive) -> None:
    first, second = two_studies(archive)
    before = state(archive)
    correction = running(archive)
    assert correction.correct(first) == 2
    undo(archive, "c1")
    with pytest.raises(CorrectionEndedError, match="undone already"):
        correction.correct(second)
    correction.end()
    assert state(archive) == before
    assert not findings(archive)
    with archive.index.engine.connect() as connection:
        (found,) = correction_states.list_corrections(connection)
    assert (found["state"], found["kept_bytes"]) == ("undone", 0)


def test_a_correction_that_is_undone_while_objects_are_written_leaves_none(
    archive: Archive,
) -> None:
    first, second = two_studies(archive)
    before = state(archive)
    written: list[int] = []

    def look(size: int) -> None:
        written.append(size)
        if len(written) == 3:  # the first study is done, the object of the second is written
            undo(archive, "c1")

    correction = running(archive, look=look)
    assert correction.correct(first) == 2
    with pytest.raises(CorrectionEndedError, match="undone already"):
        correction.correct(second)
    assert state(archive) == before
    assert not findings(archive)
    assert not [each for each in archive.files.incoming.iterdir() if each.is_file()]


def test_a_correction_is_confirmed_when_all_is_corrected(archive: Archive) -> None:
    first, second = two_studies(archive)
    correction = running(archive)
    correction.correct(first)
    half = state(archive)
    with pytest.raises(ArchiveError, match="not come to its end"):
        confirm(archive, "c1")
    assert state(archive) == half
    correction.correct(second)
    correction.end()
    confirm(archive, "c1")
    assert {row["patient_name"] for row in rows(archive)} == {"Roe^Mary"}
    assert not findings(archive)


def test_the_command_says_that_somebody_has_undone_its_correction(
    archive: Archive, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    keys = two_studies(archive)
    before = state(archive)
    asked = Asked([each for each in rows(archive) if each["id"] in keys], {"PatientName": "R"})
    correct_one = Correction.correct

    def correct_and_undo(self: Correction, study_key: int) -> int:
        number = correct_one(self, study_key)
        undo(archive, self.id)
        return number

    monkeypatch.setattr(Correction, "correct", correct_and_undo)
    with pytest.raises(CommandError, match="c1 was undone while it ran; the studies are as they"):
        _perform(archive, Settings(), asked, ("c1", "admin"))
    assert state(archive) == before
    assert capsys.readouterr().err == ""
