"""A DICOMDIR that is written in one pass, read by pydicom's FileSet."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.fileset import FileSet
from pydicom.uid import (
    CTImageStorage,
    ExplicitVRLittleEndian,
    HangingProtocolStorage,
    RTDoseStorage,
)

from lfscp.jobs.file_sets.directory import Directory, Recorder


def head(number: int, sop_class: str = CTImageStorage, **values: Any) -> Dataset:
    found = Dataset()
    found.file_meta = FileMetaDataset()
    found.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    found.SOPClassUID, found.SOPInstanceUID = sop_class, f"1.2.3.{number}"
    found.PatientName, found.PatientID = "Doe^Jane", "P1"
    found.StudyInstanceUID, found.SeriesInstanceUID = "1.2", "1.2.1"
    found.StudyDate, found.StudyTime, found.StudyID = "20260101", "120000", "1"
    found.Modality, found.SeriesNumber, found.InstanceNumber = "CT", 1, number
    for keyword, value in values.items():
        setattr(found, keyword, value)
    return found


def add(directory: Directory, listed: Dataset) -> str:
    records = Recorder().records_of(listed)
    keys = [listed.PatientID, listed.StudyInstanceUID, listed.SeriesInstanceUID]
    keys = [*keys, listed.SOPInstanceUID] if len(records) > 1 else [listed.SOPInstanceUID]
    return directory.add(records, keys)


def read(directory: Directory, folder: Path) -> dict[str, tuple[str, str]]:
    """The file and the patient of each object that pydicom finds, by SOP Instance UID."""
    path = folder / "DICOMDIR"
    path.write_bytes(directory.encoded())
    files = {}
    for record in dcmread(path).DirectoryRecordSequence:
        if listed := record.get("ReferencedFileID"):
            file = folder.joinpath(*([listed] if isinstance(listed, str) else listed))
            file.parent.mkdir(parents=True, exist_ok=True)
            file.touch()
            files[record.ReferencedSOPInstanceUIDInFile] = file.relative_to(folder).as_posix()
    file_set = FileSet()
    try:
        file_set.load(path, raise_orphans=True)  # follows the offsets of next and lower records
        assert len(file_set) == len(files)
        return {
            each.SOPInstanceUID: (
                files[each.SOPInstanceUID],
                str(each.PatientName if "PatientName" in each else ""),
            )
            for each in file_set
        }
    finally:
        file_set._stage["t"].cleanup()


def test_each_record_is_found_by_the_offsets_of_others(tmp_path: Path) -> None:
    directory = Directory()
    names = [
        add(directory, head(1)),
        add(directory, head(2, PatientID="P2", StudyInstanceUID="1.3")),
        add(directory, head(3)),
        add(directory, head(4, SeriesInstanceUID="1.2.2", PatientName="another name")),
        add(directory, head(5, RTDoseStorage, DoseSummationType="PLAN")),
        add(directory, head(6, StudyInstanceUID="1.4")),
    ]

    assert names == [
        "PT000000/ST000000/SE000000/IM000000",
        "PT000001/ST000000/SE000000/IM000000",
        "PT000000/ST000000/SE000000/IM000001",
        "PT000000/ST000000/SE000001/IM000000",
        "PT000000/ST000000/SE000000/RT000002",
        "PT000000/ST000001/SE000000/IM000000",
    ]
    found = read(directory, tmp_path)
    assert [found[f"1.2.3.{number}"][0] for number in range(1, 7)] == names
    assert found["1.2.3.4"][1] == "Doe^Jane", "the first of its patient's"


def test_an_object_of_no_patient_is_listed_at_the_root(tmp_path: Path) -> None:
    directory = Directory()
    code = Dataset()
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = "1", "99LFSCP", "one"
    definition = Dataset()
    definition.Modality, definition.AnatomicRegionSequence = "CT", [code]
    definition.ProcedureCodeSequence = [code]
    definition.ReasonForRequestedProcedureCodeSequence = [code]
    protocol = head(
        1,
        HangingProtocolStorage,
        HangingProtocolName="A",
        HangingProtocolDescription="B",
        HangingProtocolLevel="SITE",
        SpecificCharacterSet="ISO_IR 192",
        HangingProtocolCreator="Müller",
        HangingProtocolCreationDateTime="20260101120000",
        HangingProtocolDefinitionSequence=[definition],
        NumberOfPriorsReferenced=0,
        HangingProtocolUserIdentificationCodeSequence=[],
    )

    assert add(directory, protocol) == "HA000000"
    assert add(directory, head(2)) == "PT000001/ST000000/SE000000/IM000000"
    assert len(read(directory, tmp_path)) == 2
    [first, *_] = dcmread(tmp_path / "DICOMDIR").DirectoryRecordSequence
    assert first.HangingProtocolCreator == "Müller"


def test_an_object_that_cannot_be_encoded_leaves_no_record_behind(tmp_path: Path) -> None:
    directory = Directory()
    add(directory, head(1))
    broken = Recorder().records_of(head(2, PatientID="P2"))
    broken[-1]["OffsetOfTheNextDirectoryRecord"]._value = "no number"
    with pytest.raises(OSError, match="not an integer"):
        directory.add(broken, ["P2", "1.2", "1.2.1", "1.2.3.2"])

    read(directory, tmp_path)
    kinds = [
        each.DirectoryRecordType for each in dcmread(tmp_path / "DICOMDIR").DirectoryRecordSequence
    ]
    assert kinds == ["PATIENT", "STUDY", "SERIES", "IMAGE"]


def test_without_objects_there_is_none() -> None:
    assert not Directory()


def test_an_object_is_not_compared_with_all_others_of_its_series() -> None:
    twenty, forty, eighty = (calls_for(number) for number in (20, 40, 80))

    assert eighty - forty < 1.05 * 2 * (forty - twenty)


def calls_for(number: int) -> int:
    """How many functions a directory of so many objects calls."""
    heads = [head(each) for each in range(number)]
    calls = 0

    def note(_frame: object, event: str, _arg: object) -> None:
        nonlocal calls
        calls += event == "call"

    before = sys.getprofile()
    sys.setprofile(note)
    try:
        directory = Directory()
        for each in heads:
            add(directory, each)
        directory.encoded()
    finally:
        sys.setprofile(before)
    return calls
