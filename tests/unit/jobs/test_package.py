"""Studies as a ZIP: the DICOMDIR names each study's own patient."""

from __future__ import annotations

import io
import tracemalloc
import zipfile
import zlib
from pathlib import Path
from typing import Any

import pytest
from pydicom import dcmread
from pydicom.uid import DeflatedExplicitVRLittleEndian

from lfscp.archive.archive import Archive
from lfscp.archive.store.received_objects import StoredInstance
from lfscp.dicom.part10.file_meta import part10_header
from lfscp.dicom.values.attributes import Level
from lfscp.jobs.file_sets.package import _MAKING, PackageError, package
from lfscp.jobs.file_sets.record_head import read_record_head
from tests.support.archive_datasets import CT_IMAGE, EXPLICIT, encoded, received

STUDIES = (
    ("1.1", "", "Alpha^A"),
    ("1.2", "", "Beta^B"),
    ("1.3", "P1", "Doe^Jane"),
    ("1.4", "P1", "Roe^Richard"),
    ("1.5", "P1", "DOE^JANE"),
)


Patients = dict[tuple[str, str, str], list[str]]


def packed(tmp_path: Path, *objects: dict[str, Any]) -> Patients:
    """Patient ID, issuer and name of each PATIENT record, with the studies below it."""
    with Archive.open(tmp_path / "archive", durability="os") as archive:
        for number, values in enumerate(objects):
            uids = {"StudyInstanceUID": "1.1", "SeriesInstanceUID": "1.1.1"}
            archive.store(received(number, **(uids | values)))
        studies = [values.get("StudyInstanceUID", "1.1") for values in objects]
        content = b"".join(package(archive, studies))
    with zipfile.ZipFile(io.BytesIO(content)) as file:
        file.extractall(tmp_path / "disc")
    assert not (tmp_path / "disc" / "OTHER").exists()
    patients: Patients = {}
    records = dcmread(tmp_path / "disc" / "DICOMDIR").DirectoryRecordSequence
    for record in records:
        if record.DirectoryRecordType == "PATIENT":
            issuer = record.get("IssuerOfPatientID", "")
            patient_id = (
                record.PatientID
                if isinstance(record.PatientID, str)
                else "\\".join(record.PatientID)
            )
            studies = patients.setdefault((patient_id, issuer, str(record.PatientName)), [])
        elif record.DirectoryRecordType == "STUDY":
            studies.append(record.StudyInstanceUID)
    assert sum(each.DirectoryRecordType == "PATIENT" for each in records) == len(patients)
    return patients


def test_objects_that_leave_out_the_patient_are_listed_under_their_study_s(tmp_path: Path) -> None:
    assert packed(
        tmp_path,
        {"PatientID": "P3", "PatientName": "Doe^Jane"},
        {"PatientID": "", "PatientName": "Doe^Jane"},
        {"PatientID": "P3", "PatientName": ""},
        {"PatientID": "", "PatientName": ""},
        {"PatientID": "P3", "PatientName": "", "StudyInstanceUID": "1.2"},
    ) == {("P3", "", "Doe^Jane"): ["1.1", "1.2"]}


def test_patients_of_two_issuers_are_two(tmp_path: Path) -> None:
    named = {"PatientID": "P1", "PatientName": "Doe^Jane"}
    assert packed(
        tmp_path,
        {**named, "IssuerOfPatientID": "NORTH"},
        {**named, "IssuerOfPatientID": "SOUTH", "StudyInstanceUID": "1.2"},
    ) == {("P1", "NORTH", "Doe^Jane"): ["1.1"], ("P1", "SOUTH", "Doe^Jane"): ["1.2"]}


def test_a_study_uid_of_two_patients_is_listed_under_each(tmp_path: Path) -> None:
    assert packed(
        tmp_path,
        {"PatientID": "P1", "PatientName": "Doe^Jane"},
        {"PatientID": "P2", "PatientName": "Roe^Richard"},
    ) == {("P1", "", "Doe^Jane"): ["1.1"], ("P2", "", "Roe^Richard"): ["1.1"]}


def test_an_invented_patient_id_is_no_real_one(tmp_path: Path) -> None:
    assert packed(
        tmp_path,
        {"PatientID": "", "PatientName": ""},
        {"PatientID": "UNKNOWN1", "PatientName": "Roe^Richard", "StudyInstanceUID": "1.2"},
        {"PatientID": "", "PatientName": "Doe^Jane", "StudyInstanceUID": "1.3"},
    ) == {
        ("UNKNOWN2", "", "UNKNOWN"): ["1.1"],
        ("UNKNOWN1", "", "Roe^Richard"): ["1.2"],
        ("UNKNOWN3", "", "Doe^Jane"): ["1.3"],
    }


def test_a_patient_id_with_a_backslash_stays_as_it_is(tmp_path: Path) -> None:
    values = {"PatientID": ["A", "B"], "PatientName": "Doe^Jane"}
    assert packed(tmp_path, values) == {("A\\B", "", "Doe^Jane"): ["1.1"]}


def test_a_name_is_written_in_a_character_set_that_has_it(tmp_path: Path) -> None:
    nameless = {"PatientID": "P1", "PatientName": "", "SpecificCharacterSet": "ISO_IR 144"}
    assert packed(
        tmp_path,
        nameless,
        {
            "PatientID": "P1",
            "StudyInstanceUID": "1.2",
            "SpecificCharacterSet": "ISO_IR 100",
            "PatientName": "Müller^Zoë",
        },
        {
            "PatientID": "P2",
            "StudyInstanceUID": "1.3",
            "SpecificCharacterSet": "ISO_IR 144",
            "PatientName": "Люксембург^Роза",
        },
    ) == {("P1", "", "Müller^Zoë"): ["1.1", "1.2"], ("P2", "", "Люксембург^Роза"): ["1.3"]}


def test_each_study_is_listed_under_its_own_patient(tmp_path: Path) -> None:
    with Archive.open(tmp_path / "archive", durability="os") as archive:
        for number, (study, patient_id, name) in enumerate(STUDIES):
            uids = {"StudyInstanceUID": study, "SeriesInstanceUID": f"{study}.1"}
            archive.store(received(number, PatientID=patient_id, PatientName=name, **uids))
        content = b"".join(package(archive, [study for study, _, _ in STUDIES]))
    with zipfile.ZipFile(io.BytesIO(content)) as file:
        file.extractall(tmp_path / "disc")
    patients: dict[tuple[str, str], list[str]] = {}
    for record in dcmread(tmp_path / "disc" / "DICOMDIR").DirectoryRecordSequence:
        if record.DirectoryRecordType == "PATIENT":
            studies = patients.setdefault((record.PatientID, str(record.PatientName)), [])
        elif record.DirectoryRecordType == "STUDY":
            studies.append(record.StudyInstanceUID)
    assert patients == {
        ("UNKNOWN1", "Alpha^A"): ["1.1"],
        ("UNKNOWN2", "Beta^B"): ["1.2"],
        ("P1", "Doe^Jane"): ["1.3", "1.5"],
        ("P1", "Roe^Richard"): ["1.4"],
    }


def deflated(dataset: bytes) -> bytes:
    """As a dataset of Deflated Explicit VR Little Endian."""
    deflater = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return deflater.compress(dataset) + deflater.flush()


@pytest.mark.parametrize("is_deflated", [False, True])
def test_a_large_element_costs_the_directory_no_memory(tmp_path: Path, is_deflated: bool) -> None:
    content = encoded(1, RedPaletteColorLookupTableData=bytes(40_000_000))
    syntax = DeflatedExplicitVRLittleEndian if is_deflated else EXPLICIT
    path = tmp_path / "object.dcm"
    begin = part10_header(CT_IMAGE, "1.2.3.1.1", syntax)
    path.write_bytes(begin + (deflated(content) if is_deflated else content))
    stored = StoredInstance(CT_IMAGE, "1.2.3.1.1", syntax, path, len(begin), 0, "", "")
    del content
    tracemalloc.start()
    try:
        head = read_record_head(stored)
        most = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert (head.PatientID, head.InstanceNumber) == ("P1", 1)
    assert head.file_meta.TransferSyntaxUID == syntax
    assert "PixelData" not in head
    assert most < 20_000_000


def test_studies_of_too_many_objects_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lfscp.jobs.file_sets.package.MAX_PACKED", 2)
    with Archive.open(tmp_path / "archive", durability="os") as archive:
        for number in range(3):
            archive.store(received(number, StudyInstanceUID=f"1.{number + 1}"))
        assert b"".join(package(archive, ["1.1", "1.2", "1.2"]))
        with pytest.raises(PackageError, match="at most 2 objects, and these are 3"):
            package(archive, ["1.1", "1.2", "1.3"])


@pytest.mark.parametrize("fails_at", [1, 3])
def test_a_making_that_is_called_off_frees_the_place(tmp_path: Path, fails_at: int) -> None:
    looks = 0

    def look() -> None:
        nonlocal looks
        looks += 1
        if looks == fails_at:
            raise ConnectionAbortedError

    with Archive.open(tmp_path / "archive", durability="os") as archive:
        for number in range(3):
            archive.store(received(number))
        with pytest.raises(ConnectionAbortedError):
            package(archive, ["1.2.3"], look=look)
        assert b"".join(package(archive, ["1.2.3"]))


def test_one_directory_is_made_at_a_time(tmp_path: Path) -> None:
    with Archive.open(tmp_path / "archive", durability="os") as archive:
        archive.store(received(1))
        with _MAKING, pytest.raises(PackageError, match="another ZIP"):
            package(archive, ["1.2.3"])
        first, second = package(archive, ["1.2.3"]), package(archive, ["1.2.3"])
        names = [  # read when the other is made
            zipfile.ZipFile(io.BytesIO(b"".join(each))).namelist() for each in (first, second)
        ]
        assert names == [["DICOMDIR", "PT000000/ST000000/SE000000/IM000000"]] * 2


def test_an_object_that_is_replaced_after_the_directory_was_made_is_the_new_one(
    tmp_path: Path,
) -> None:
    with Archive.open(tmp_path / "archive", durability="os", duplicates="replace") as archive:
        for number in (1, 2):
            archive.store(received(number))
        pieces = package(archive, ["1.2.3"])
        archive.store(received(2, SeriesDescription="new"))
        with zipfile.ZipFile(io.BytesIO(b"".join(pieces))) as file:
            objects = [dcmread(file.open(name)) for name in file.namelist()[1:]]

    assert [each.get("SeriesDescription") for each in objects] == [None, "new"]


def test_one_that_is_another_patient_s_by_then_is_left_out(tmp_path: Path) -> None:
    with Archive.open(tmp_path / "archive", durability="os") as archive:
        for number in (1, 2):
            archive.store(received(number))
        pieces = package(archive, ["1.2.3"])
        archive.delete(Level.IMAGE, "1.2.3.1.2")
        archive.store(received(2, PatientID="P2", PatientName="Roe^Richard"))
        with zipfile.ZipFile(io.BytesIO(b"".join(pieces))) as file:
            assert len(file.namelist()) == 2


def test_a_zip_breaks_off_if_an_object_cannot_be_read(tmp_path: Path) -> None:
    with Archive.open(tmp_path / "archive", durability="os") as archive:
        archive.store(received(1))
        [stored] = archive.select(Level.STUDY, {Level.STUDY: ["1.2.3"]})
        pieces = package(archive, ["1.2.3"])
        path = Path(stored.path)
        path.unlink()
        path.symlink_to(path)
        with pytest.raises(OSError, match="symbolic links"):
            b"".join(pieces)
