"""Studies as a ZIP: the DICOMDIR names each study's own patient."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

from archive_datasets import received
from pydicom import dcmread

from lfscp.archive.archive import Archive
from lfscp.jobs.package import package

STUDIES = (
    ("1.1", "", "Alpha^A"),
    ("1.2", "", "Beta^B"),
    ("1.3", "P1", "Doe^Jane"),
    ("1.4", "P1", "Roe^Richard"),
    ("1.5", "P1", "DOE^JANE"),
)


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
