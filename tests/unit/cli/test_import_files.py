"""lfscp import: what others wrote, ZIPs, discs with a DICOMDIR; each refusal has its reason."""

from __future__ import annotations

import os
import shutil
import zipfile
from pathlib import Path
from typing import Any

import pytest
from pydicom import dcmread
from pydicom.data import get_testdata_file
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, MediaStorageDirectoryStorage

from lfscp.archive.data_folder import LOCK_FILE
from lfscp.cli.errors import CommandError
from lfscp.cli.import_files import import_files
from lfscp.config import Settings
from lfscp.dicom.part10.file_meta import part10_header
from tests.support.archive_datasets import CT_IMAGE, EXPLICIT, encoded

HEAD = part10_header(CT_IMAGE, "1.2.3.1.1", EXPLICIT, "SENDER")


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings.model_validate({"data_dir": str(tmp_path / "data")})


@pytest.fixture
def imported(run: Any, settings: Settings, capsys: pytest.CaptureFixture[str]) -> Any:
    """Imports a folder: exit code, summary, lines about files."""

    def imports(folder: Path, settings: Settings = settings) -> tuple[int, str, dict[str, str]]:
        code = run(settings, "import", folder)
        output, errors = capsys.readouterr()
        lines = (line.partition(": ") for line in errors.splitlines())
        return code, output, {name.removeprefix(f"{folder}/"): text for name, _, text in lines}

    return imports


def stored(settings: Settings) -> list[str]:
    return sorted(path.stem for path in (settings.data_dir / "objects").rglob("*.dcm"))


def directory(files: list[list[str]]) -> Dataset:
    """A DICOMDIR that lists these files."""
    listing = Dataset()
    listing.FileSetID = "DISC"
    patient = Dataset()
    patient.DirectoryRecordType, patient.PatientID = "PATIENT", "P1"
    listing.DirectoryRecordSequence = [patient]
    for parts in files:
        record = Dataset()
        record.DirectoryRecordType = "IMAGE"
        # Unchecked: the names of real discs are not always right.
        record.add(DataElement(0x00041500, "CS", parts, validation_mode=0))
        listing.DirectoryRecordSequence.append(record)
    listing.file_meta = FileMetaDataset()
    listing.file_meta.MediaStorageSOPClassUID = MediaStorageDirectoryStorage
    listing.file_meta.MediaStorageSOPInstanceUID = "1.2.9"
    listing.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    return listing


def disc(folder: Path, count: int = 3) -> Path:
    """A disc as writers make it: DICOMDIR, objects without endings, a viewer."""
    listed = []
    for number in range(1, count + 1):
        parts = ["DICOM", "P1", f"IM{number}"]
        path = folder.joinpath(*parts)
        path.parent.mkdir(parents=True, exist_ok=True)
        head = part10_header(CT_IMAGE, f"1.2.3.1.{number}", EXPLICIT)
        path.write_bytes(head + encoded(number))
        listed.append(parts)
    directory(listed).save_as(folder / "DICOMDIR", enforce_file_format=True)
    (folder / "VIEWER.EXE").write_bytes(b"MZ" + bytes(1000))
    return folder


def test_each_file_that_is_no_object_is_named_with_its_reason(imported, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "good").write_bytes(HEAD + encoded(1))
    (folder / "notes.txt").write_text("no object")
    (folder / "empty").touch()
    (folder / "list").write_bytes(part10_header("1.2.840.10008.1.3.10", "1.2", EXPLICIT) + b"\0")
    (folder / "torn").write_bytes((HEAD + encoded(2))[:150])
    code, summary, said = imported(folder)
    assert (code, summary) == (1, "1 stored, 3 no DICOM object, 1 failed\n")
    assert said == {
        "notes.txt": "no DICOM file: the prefix DICM is missing",
        "empty": "no DICOM file: it is empty",
        "list": "a DICOMDIR: it lists objects and is none itself",
        "torn": "the file meta information is longer than the file",
    }


def test_other_files_alone_are_no_failure(imported, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "notes.txt").write_text("no object")
    code, summary, said = imported(tmp_path / "in")
    assert (code, summary) == (0, "0 stored, 1 no DICOM object\n")
    assert list(said) == ["notes.txt"]


def test_odd_files_are_stored_with_a_note(
    imported, run: Any, settings: Settings, tmp_path: Path
) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    other = part10_header(CT_IMAGE, "1.9.9", EXPLICIT)
    for name, content in (
        ("right", HEAD + encoded(1)),
        ("other", other + encoded(2)),
        ("bare", encoded(3)),
        ("headless", part10_header(CT_IMAGE, "1.2.3.1.4", EXPLICIT)[132:] + encoded(4)),
    ):
        (folder / name).write_bytes(content)
    code, summary, said = imported(folder)
    assert (code, summary) == (0, "4 stored\n")
    assert set(said) == {"other", "bare", "headless"}
    assert said["other"] == (
        "the file meta information has SOP Instance UID 1.9.9, the dataset 1.2.3.1.2"
    )
    assert stored(settings) == [f"1.2.3.1.{number}" for number in (1, 2, 3, 4)]
    for path in (settings.data_dir / "objects").rglob("*.dcm"):
        assert dcmread(path).file_meta.MediaStorageSOPInstanceUID == path.stem
    assert run(settings, "check") == 0


def test_a_zip_is_imported_file_by_file(imported, settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    file = tmp_path / "in" / "disc.zip"
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as made:
        made.writestr("a/IM1", HEAD + encoded(1))
        made.writestr("a/IM2", encoded(2))
        made.writestr("a/torn", (HEAD + encoded(3))[:150])
        made.writestr("notes.txt", "no object")
    code, summary, said = imported(tmp_path / "in")
    assert (code, summary) == (1, "2 stored, 1 no DICOM object, 1 failed\n")
    assert set(said) == {"disc.zip/a/IM2", "disc.zip/a/torn", "disc.zip/notes.txt"}
    assert stored(settings) == ["1.2.3.1.1", "1.2.3.1.2"]
    assert imported(file)[1] == "0 stored, 2 identical, 1 no DICOM object, 1 failed\n"
    assert not any((settings.data_dir / "objects").rglob("zip-*"))


def test_a_zip_that_is_broken_fails_alone(imported, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "good").write_bytes(HEAD + encoded(1))
    (tmp_path / "in" / "torn.zip").write_bytes(b"PK\x03\x04" + bytes(100))
    code, summary, said = imported(tmp_path / "in")
    assert (code, summary) == (1, "1 stored, 1 failed\n")
    assert said == {"torn.zip": "the ZIP is damaged, incomplete or too large"}


def test_a_disc_is_imported_by_its_dicomdir(
    imported, run: Any, settings: Settings, tmp_path: Path
) -> None:
    folder = disc(tmp_path / "disc")
    code, summary, said = imported(folder)
    assert (code, summary) == (0, "3 stored, 1 no DICOM object\n")
    assert said == {"DICOMDIR": "a DICOMDIR, which lists 3 files; 3 of them are here"}
    assert stored(settings) == ["1.2.3.1.1", "1.2.3.1.2", "1.2.3.1.3"]
    assert run(settings, "check") == 0


def test_what_a_dicomdir_lists_and_is_not_there_is_named(imported, tmp_path: Path) -> None:
    folder = disc(tmp_path / "disc")
    (folder / "DICOM" / "P1" / "IM2").unlink()
    code, summary, said = imported(folder)
    assert (code, summary) == (1, "2 stored, 1 no DICOM object, 1 failed\n")
    assert said["DICOM/P1/IM2"] == "the DICOMDIR lists it, and it is not there"


def test_what_a_dicomdir_does_not_list_is_not_lost(
    imported, settings: Settings, tmp_path: Path
) -> None:
    folder = disc(tmp_path / "disc")
    (folder / "EXTRA").write_bytes(part10_header(CT_IMAGE, "1.2.3.1.9", EXPLICIT) + encoded(9))
    (tmp_path / "beside").write_bytes(HEAD + encoded(8))
    code, summary, said = imported(folder)
    assert (code, summary) == (0, "4 stored, 1 no DICOM object\n")
    assert said["EXTRA"] == "the DICOMDIR does not list it"
    assert "1.2.3.1.9" in stored(settings)
    assert "1.2.3.1.8" not in stored(settings)


def test_a_dicomdir_itself_stands_for_what_it_lists(
    imported, settings: Settings, tmp_path: Path
) -> None:
    folder = disc(tmp_path / "disc")
    (folder / "EXTRA").write_bytes(part10_header(CT_IMAGE, "1.2.3.1.9", EXPLICIT) + encoded(9))
    code, summary, _ = imported(folder / "DICOMDIR")
    assert (code, summary) == (0, "3 stored\n")
    assert "1.2.3.1.9" not in stored(settings)


def test_names_on_a_disc_count_whatever_their_case(imported, tmp_path: Path) -> None:
    folder = disc(tmp_path / "disc")
    for parent, folders, names in os.walk(folder, topdown=False):
        for name in (*folders, *names):
            Path(parent, name).rename(Path(parent, name.lower()))
    code, summary, _ = imported(folder)
    assert (code, summary) == (0, "3 stored, 1 no DICOM object\n")


def test_names_that_differ_in_case_alone_are_all_imported(
    imported, settings: Settings, tmp_path: Path
) -> None:
    folder = disc(tmp_path / "disc")
    for number, name in ((4, "im1"), (5, "IM1."), (6, "IM9"), (7, "im9")):
        head = part10_header(CT_IMAGE, f"1.2.3.1.{number}", EXPLICIT)
        (folder / "DICOM" / "P1" / name).write_bytes(head + encoded(number))
    code, summary, _ = imported(folder)
    assert (code, summary) == (0, "7 stored, 1 no DICOM object\n")
    assert stored(settings) == [f"1.2.3.1.{number}" for number in range(1, 8)]


@pytest.mark.parametrize("name", ["DICOMDIR", "object"])
def test_an_object_whose_meta_information_says_dicomdir_is_an_object(
    imported, settings: Settings, tmp_path: Path, name: str
) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    head = part10_header(MediaStorageDirectoryStorage, "1.2.9", EXPLICIT)
    (folder / name).write_bytes(head + encoded(1))
    code, summary, said = imported(folder)
    assert (code, summary) == (0, "1 stored\n")
    assert f"{MediaStorageDirectoryStorage}, the dataset {CT_IMAGE}" in said[name]
    assert stored(settings) == ["1.2.3.1.1"]


def test_a_dicomdir_leads_to_nothing_outside_its_folder(
    imported, settings: Settings, tmp_path: Path
) -> None:
    folder = disc(tmp_path / "disc")
    secret = tmp_path / "SECRET"
    secret.write_bytes(part10_header(CT_IMAGE, "1.2.3.1.9", EXPLICIT) + encoded(9))
    directory([["..", "SECRET"]]).save_as(folder / "DICOMDIR", enforce_file_format=True)
    code, _, said = imported(folder)
    assert code == 1
    assert "the DICOMDIR lists it, and it is not there" in said.values()
    assert "1.2.3.1.9" not in stored(settings)


def test_a_broken_dicomdir_hides_nothing(imported, settings: Settings, tmp_path: Path) -> None:
    folder = disc(tmp_path / "disc")
    content = (folder / "DICOMDIR").read_bytes()
    (folder / "DICOMDIR").write_bytes(content[:400])
    _, summary, _ = imported(folder)
    assert summary.startswith("3 stored")
    assert stored(settings) == ["1.2.3.1.1", "1.2.3.1.2", "1.2.3.1.3"]


def test_private_sop_classes_are_refused_where_they_are_not_wanted(
    imported, tmp_path: Path
) -> None:
    strict = Settings.model_validate(
        {
            "data_dir": str(tmp_path / "strict"),
            "storage": {"accept_unknown_sop_classes": False},
        }
    )
    file = tmp_path / "private"
    private = "1.2.840.99999.5.1.4.1.1.2"  # as long as CT's
    file.write_bytes(encoded(1).replace(CT_IMAGE.encode(), private.encode()[: len(CT_IMAGE)]))
    code, summary, said = imported(file, strict)
    assert (code, summary) == (1, "0 stored, 1 failed\n")
    (reason,) = said.values()
    assert reason.startswith("SOP class 1.2.840.99999.5.1.4.1.1.2 is not accepted; name it in ")
    assert imported(file)[:2] == (0, "1 stored\n")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may do something for another user")
def test_root_stores_nothing_that_the_user_of_the_node_could_not_read(
    settings: Settings, tmp_path: Path
) -> None:
    file = Path(shutil.copy(get_testdata_file("CT_small.dcm"), tmp_path))
    assert import_files(settings, file) == 0
    os.chown(settings.data_dir / LOCK_FILE, 54_321, 54_321)
    with pytest.raises(CommandError, match="is of the user #54321"):
        import_files(settings, file)
