"""lfscp deidentify: what is written, what is held back, and the wrong options."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.data import get_testdata_file
from pydicom.encaps import encapsulate
from pydicom.uid import ExplicitVRLittleEndian
from typer.testing import CliRunner

from lfscp.cli.app import app
from lfscp.cli.errors import OptionError
from tests.support.marked_objects import dataset, element, file_of

KEY = "a key of sixteen bytes"


def run(*arguments: object) -> int:
    return app(["deidentify", *map(str, arguments)], standalone_mode=False) or 0


def object_of(instance: str, **given: bytes) -> bytes:
    elements = {
        0x00080018: element(0x00080018, instance.encode()),
        0x00100010: element(0x00100010, b"Doe^Jane"),
        0x00100020: element(0x00100020, b"4711"),
    }
    elements |= {int(tag[1:], 16): element(int(tag[1:], 16), v) for tag, v in given.items()}
    return file_of(dataset(elements))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "in" / "Doe^Jane"
    folder.mkdir(parents=True)
    (folder / "one Doe.dcm").write_bytes(object_of("1.2.3.41"))
    (folder / "two").write_bytes(object_of("1.2.3.42"))
    return folder.parent


def written(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def test_objects_are_written_under_their_new_uids(folder: Path, tmp_path: Path, capsys) -> None:
    assert run(folder, tmp_path / "out", "--key", KEY) == 0
    assert capsys.readouterr().out == "2 de-identified\n"
    found = written(tmp_path / "out")
    assert len(found) == 2
    for name, content in found.items():
        assert b"Doe" not in content
        assert b"4711" not in content
        assert "Doe" not in name
        dicom = dcmread(io.BytesIO(content))
        uids = (dicom.StudyInstanceUID, dicom.SeriesInstanceUID, dicom.SOPInstanceUID)
        assert name == "/".join(uids) + ".dcm"


def test_the_same_key_gives_the_same_files_from_wherever_it_comes(
    folder: Path, tmp_path: Path
) -> None:
    key_file = tmp_path / "key"
    key_file.write_text(KEY + "\n")
    run(folder, tmp_path / "one", "--key", KEY)
    run(folder, tmp_path / "two", "--key-file", key_file)
    run(folder, tmp_path / "three")
    assert written(tmp_path / "one") == written(tmp_path / "two")
    assert not written(tmp_path / "one").keys() & written(tmp_path / "three").keys()


def test_what_is_held_back_is_named_and_everything_else_is_written(
    folder: Path, tmp_path: Path, capsys
) -> None:
    (folder / "cut.dcm").write_bytes(object_of("1.2.3.43")[:-3])
    (folder / "document.dcm").write_bytes(object_of("1.2.3.44", t00420011=b"%PDF"))
    (folder / "head.dcm").write_bytes(bytes(128) + b"DICM" + b"\x02\0\0\0UL\4\0\xff\xff\xff\7")
    (folder / "notes.txt").write_text("Jane Doe called")
    (folder / "empty").write_bytes(b"")
    assert run(folder, tmp_path / "out") == 1
    output, errors = capsys.readouterr()
    assert output == "2 de-identified, 3 held back, 2 no DICOM object\n"
    assert "document.dcm: held back: it has an encapsulated document" in errors
    assert "cut.dcm: held back: " in errors
    assert "head.dcm: held back: " in errors
    assert len(written(tmp_path / "out")) == 2


def test_two_objects_of_one_uid_do_not_overwrite_each_other(
    folder: Path, tmp_path: Path, capsys
) -> None:
    (folder / "three").write_bytes(object_of("1.2.3.42", t00180050=b"2.5"))
    assert run(folder, tmp_path / "out") == 1
    assert "same SOP Instance UID" in capsys.readouterr().err
    assert len(written(tmp_path / "out")) == 2


def test_a_target_inside_the_source_is_not_read_again(folder: Path, capsys) -> None:
    run(folder, folder / "out", "--key", KEY)
    assert run(folder, folder / "out", "--key", KEY) == 0
    assert capsys.readouterr().out == 2 * "2 de-identified\n"


def test_options_and_devices_are_used(folder: Path, tmp_path: Path) -> None:
    devices = tmp_path / "devices.toml"
    devices.write_text('[[device]]\nmodality = "CT"\nrectangles = []\n')
    run(folder, tmp_path / "out", "--option", "retain-uids", "--devices", devices)
    assert "1.2.3.5/1.2.3.6/1.2.3.41.dcm" in written(tmp_path / "out")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--key", "short"], "5 bytes"),
        (["--key", KEY, "--key-file", "file"], "give one of them"),
        (["--key-file", "/no/such/file"], "No such file"),
        (["--option", "retain-all"], "retain-all"),
    ],
)
def test_wrong_options_end_the_command(
    folder: Path, tmp_path: Path, arguments: list[str], words: str
) -> None:
    with pytest.raises(OptionError, match=words):
        run(folder, tmp_path / "out", *arguments)
    assert not (tmp_path / "out").exists()


def test_a_source_that_is_not_there_or_is_in_the_target(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="no such file"):
        run(tmp_path / "nowhere", tmp_path / "out")
    with pytest.raises(OptionError, match="choose another folder"):
        run(folder, folder.parent)


def test_the_help_names_the_options() -> None:
    shown = CliRunner().invoke(app, ["deidentify", "--help"]).output
    assert "--key-file" in shown
    assert "--devices" in shown


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ["MR_small_RLE.dcm", "MR_small_jp2klossless.dcm"])
def test_compressed_pixels_that_must_be_cleaned_are_decoded(tmp_path: Path, name: str) -> None:
    source = dcmread(str(get_testdata_file(name)))
    source.BurnedInAnnotation = "YES"
    source.save_as(tmp_path / "in.dcm")
    devices = tmp_path / "devices.toml"
    devices.write_text('[[device]]\nmodality = "MR"\nrectangles = [[0, 0, 64, 3]]\n')
    assert run(tmp_path / "in.dcm", tmp_path / "out", "--devices", devices) == 0
    (content,) = written(tmp_path / "out").values()
    found = dcmread(io.BytesIO(content))
    expected = dcmread(str(get_testdata_file("MR_small.dcm"))).pixel_array.copy()
    expected[:3] = 0
    assert found.file_meta.TransferSyntaxUID == ExplicitVRLittleEndian
    assert found.BurnedInAnnotation == "NO"
    assert (found.pixel_array == expected).all()


@pytest.mark.filterwarnings("ignore")
def test_compressed_pixels_that_cannot_be_decoded_are_held_back(tmp_path: Path, capsys) -> None:
    source = dcmread(str(get_testdata_file("MR_small_RLE.dcm")))
    source.BurnedInAnnotation = "YES"
    source.PixelData = encapsulate([b"no run lengths at all"])
    source.save_as(tmp_path / "in.dcm")
    devices = tmp_path / "devices.toml"
    devices.write_text('[[device]]\nmodality = "MR"\nrectangles = [[0, 0, 64, 3]]\n')
    assert run(tmp_path / "in.dcm", tmp_path / "out", "--devices", devices) == 1
    assert "held back: its pixels must be cleaned, and RLE Lossless cannot be" in (
        capsys.readouterr().err
    )
    assert not (tmp_path / "out").exists()


def test_a_folder_of_a_thousand_files(tmp_path: Path, capsys) -> None:
    """Some cannot be de-identified; they are named, counted, and in no folder of the target."""
    source = tmp_path / "in"
    for number in range(1000):
        path = source / f"Doe {number % 10}" / f"{number}.dcm"
        path.parent.mkdir(parents=True, exist_ok=True)
        content = object_of(f"1.2.3.{number + 10}", t00080060=b"CT", t00180015=b"DOE")
        path.write_bytes(content if number % 100 else content[:-1])
    assert run(source, tmp_path / "out", "--key", KEY) == 1
    output, errors = capsys.readouterr()
    assert output == "990 de-identified, 10 held back\n"
    assert len([line for line in errors.splitlines() if "held back: " in line]) == 10
    found = written(tmp_path / "out")
    assert len(found) == 990
    assert len({name.split("/")[0] for name in found}) == 1
    assert not [
        name for name, content in found.items() if b"doe" in (name.encode() + content).lower()
    ]
