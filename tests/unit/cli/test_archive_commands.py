"""lfscp import and check over real files: what is stored, passed over, reported, mended."""

import json
import os

import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

from lfscp.archive.data_folder import join_node, without_commands
from lfscp.cli.errors import CommandError
from lfscp.config import Settings
from lfscp.dicom.part10.file_meta import read_part10
from lfscp.node.parts import open_archive
from lfscp.node.single_process import SingleProcess
from lfscp.observe.logging import configure


@pytest.fixture
def settings(tmp_path):
    return Settings.model_validate({"data_dir": str(tmp_path / "data")})


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "in" / "deep"
    folder.mkdir(parents=True)
    return folder


def write_object(path, **elements):
    dataset = Dataset()
    dataset.SOPClassUID = CTImageStorage
    dataset.SOPInstanceUID = generate_uid()
    dataset.StudyInstanceUID = generate_uid()
    dataset.SeriesInstanceUID = generate_uid()
    dataset.PatientID = "1"
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    for keyword, value in elements.items():
        setattr(dataset, keyword, value)
    dataset.save_as(path, enforce_file_format=True)


def test_objects_are_stored_other_files_passed_over_and_bad_ones_reported(
    run, settings, folder, capsys
):
    write_object(folder / "good.dcm")
    write_object(folder / "without-study.dcm", StudyInstanceUID="")
    (folder / "notes.txt").write_text("no object")
    (folder / "empty").write_bytes(b"")
    (folder / "cut\x1b[31m.dcm").write_bytes((folder / "good.dcm").read_bytes()[:150])

    code = run(settings, "import", folder.parent)

    output, errors = capsys.readouterr()
    assert code == 1
    assert output == "1 stored, 2 no DICOM object, 2 failed\n"
    assert "without-study.dcm: (0020,000D)" in errors
    assert "cut\\x1b[31m.dcm: " in errors


def test_import_refuses_a_dataset_that_begins_with_file_meta(run, settings, folder, capsys):
    write_object(folder / "object.dcm")
    content = (folder / "object.dcm").read_bytes()
    at = read_part10(content).dataset_offset
    stray = b"\x02\0\x10\0UI\x12\x001.2.840.10008.1.2\0"
    (folder / "object.dcm").write_bytes(content[:at] + stray + content[at:])

    assert run(settings, "import", folder) == 1

    errors = capsys.readouterr().err
    assert "object.dcm: it begins with (0002,0010), which no dataset may have" in errors


def test_importing_again_changes_nothing(run, settings, folder, capsys):
    write_object(folder / "good.dcm")
    assert run(settings, "import", folder) == 0
    assert run(settings, "import", folder / "good.dcm") == 0

    assert capsys.readouterr().out == "1 stored\n0 stored, 1 identical\n"


def test_an_import_beside_a_node_is_seen_by_the_node(run, settings, folder, capsys):
    write_object(folder / "good.dcm")
    with open_archive(settings) as archive:
        assert run(settings, "import", folder) == 0
        assert archive.statistics().instances == 1
        assert run(settings, "check") == 0
    assert capsys.readouterr().out == "1 stored\nindex and objects agree\n"


def test_beside_a_node_only_old_files_without_a_row_are_left_over(run, settings, folder, capsys):
    write_object(folder / "one.dcm")
    run(settings, "import", folder)
    (stored,) = (settings.data_dir / "objects").rglob("*.dcm")
    with open_archive(settings) as archive:
        (row,) = archive.index.placements(limit=1)
        archive.index.forget(row.sop_instance_uid, row.path)  # as if its row were on its way
        assert run(settings, "check", "--repair") == 0
        assert archive.statistics().instances == 0
        capsys.readouterr()
        hours_ago = stored.stat().st_mtime - 7200
        os.utime(stored, (hours_ago, hours_ago))
        assert run(settings, "check", "--repair") == 0
        assert ": indexed again" in capsys.readouterr().out
        assert archive.statistics().instances == 1


def test_a_node_that_starts_beside_a_command_removes_none_of_its_pieces(settings):
    with open_archive(settings) as archive:
        incoming = archive.incoming_dir
        joined = join_node(settings.data_dir)
    assert joined is not None
    piece = incoming / "1-1.part"
    piece.write_bytes(b"of the command")
    open_archive(settings).close()
    assert piece.exists()
    os.close(joined)
    open_archive(settings).close()
    assert not piece.exists()


def test_while_a_node_starts_no_command_begins(run, settings, folder):
    is_starting = r"a node is just starting in .*; try again"
    with (
        open_archive(settings),
        without_commands(settings.data_dir),
        pytest.raises(CommandError, match=is_starting),
    ):
        run(settings, "import", folder)


def test_the_index_of_a_running_node_is_not_rebuilt(run, settings, folder):
    write_object(folder / "one.dcm")
    run(settings, "import", folder)
    with open_archive(settings), pytest.raises(CommandError, match="stop the node first"):
        run(settings, "check", "--rebuild")


def test_check_finds_what_repair_mends(run, settings, folder, capsys):
    write_object(folder / "one.dcm")
    write_object(folder / "two.dcm")
    run(settings, "import", folder)
    assert run(settings, "check") == 0
    stored = sorted((settings.data_dir / "objects").rglob("*.dcm"))
    stored[0].unlink()
    capsys.readouterr()

    assert run(settings, "check") == 1
    assert capsys.readouterr().out.startswith("missing: ")
    assert run(settings, "check", "--repair") == 0
    assert run(settings, "check") == 0
    assert capsys.readouterr().out.endswith("index and objects agree\n")


def test_what_repair_leaves_as_it_is_is_said(run, settings, folder, capsys):
    write_object(folder / "one.dcm")
    run(settings, "import", folder)
    (stored,) = (settings.data_dir / "objects").rglob("*.dcm")
    stored.unlink()
    stored.symlink_to(stored.name)  # a loop: the file is there and cannot be read
    capsys.readouterr()

    assert run(settings, "check", "--repair") == 1
    assert capsys.readouterr().out.endswith("1 problem found, 0 repaired\n")


def settings_with(tmp_path, **sections):
    return Settings.model_validate({"data_dir": str(tmp_path / "data"), **sections})


@pytest.mark.parametrize(
    "command",
    [
        ["check"],
        ["check", "--repair"],
        ["check", "--rebuild"],
        ["retention"],
        ["retention", "--dry-run"],
        ["protect", "1.2.3"],
    ],
    ids=" ".join,
)
def test_an_archive_that_is_not_there_is_not_made_by_looking_at_it(tmp_path, run, command):
    settings = settings_with(tmp_path, retention={"max_studies": 1})
    with pytest.raises(
        CommandError, match=r"there is no index .*data/index\.sqlite; check data_dir"
    ):
        run(settings, *command)
    assert not settings.data_dir.exists()


def test_protect_and_unprotect_are_in_the_audit_trail_with_user_and_patient(run, settings, folder):
    write_object(folder / "one.dcm", StudyInstanceUID="1.2.3", PatientName="Doe^Jane")
    run(settings, "import", folder)
    for command in ("protect", "unprotect"):
        run(settings, command, "1.2.3")
    lines = (settings.data_dir / "audit.log").read_text().splitlines()
    said = [line for line in lines if "protected" in line]
    assert ["no longer" in line for line in said] == [False, True]
    for line in said:
        assert all(part in line for part in ("1.2.3", "Doe^Jane", f"uid {os.getuid()}")), line


def test_a_lost_index_is_made_anew_from_the_objects(run, settings, folder, capsys):
    write_object(folder / "one.dcm")
    run(settings, "import", folder)
    for file in settings.data_dir.glob("index.sqlite*"):
        file.unlink()
    with pytest.raises(CommandError, match="make it anew with `lfscp check --rebuild`"):
        run(settings, "check")
    assert run(settings, "check", "--rebuild") == 0
    assert capsys.readouterr().out.endswith("1 instances indexed\n")
    assert run(settings, "check") == 0


def test_an_empty_index_before_objects_is_said_at_start_and_by_check(run, settings, folder, capfd):
    write_object(folder / "one.dcm")
    run(settings, "import", folder)
    for file in settings.data_dir.glob("index.sqlite*"):
        file.unlink()
    server = settings.server.model_copy(update={"host": "127.0.0.1", "port": 0})
    web = settings.web.model_copy(update={"port": 0})
    node = SingleProcess(settings.model_copy(update={"server": server, "web": web}))
    configure("warning", "json")
    try:
        node.start()
        node.stop()
    finally:
        configure("info", "console")
    (line,) = capfd.readouterr().err.splitlines()
    assert "lfscp check --rebuild" in json.loads(line)["hint"]
    assert run(settings, "check") == 1
    assert "run `lfscp check --rebuild`" in capfd.readouterr().out


@pytest.mark.parametrize("name", ["backup", "objects", "."])
def test_a_backup_inside_the_data_folder_is_refused(run, settings, folder, name):
    write_object(folder / "one.dcm")
    run(settings, "import", folder)
    before = set(settings.data_dir.rglob("*"))
    with pytest.raises(CommandError, match="is inside the data folder"):
        run(settings, "backup", settings.data_dir / name)
    assert set(settings.data_dir.rglob("*")) == before
