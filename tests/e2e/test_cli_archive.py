"""`lfscp import` and `lfscp check` on real folders, and `lfscp echo` with real peers."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from pydicom import dcmread

from tests.support.dcmtk import contents, dataset_bytes, free_port
from tests.support.node_process import NodeProcess, run_lfscp
from tests.support.sample_objects import KINDS, made, sample

STUDY = "1.2.826.0.1.3680043.8.498.13"


def imported(folder: Path, data: Path, code: int = 0) -> str:
    """What `lfscp import` prints."""
    result = run_lfscp("import", folder, "--data-dir", data)
    assert result.returncode == code, result.stderr
    return result.stdout + result.stderr


def check(data: Path, *flags: str, code: int) -> list[str]:
    """The lines that `lfscp check` prints."""
    result = run_lfscp("check", "--data-dir", data, *flags)
    assert result.returncode == code, result.stdout + result.stderr
    assert result.stderr == ""
    return result.stdout.splitlines()


@pytest.fixture
def four(tmp_path: Path) -> list[Path]:
    """An archive of four objects in `data`: their files there, by Instance Number."""
    for number in range(1, 5):
        made(
            tmp_path / "sent",
            StudyInstanceUID=STUDY,
            SeriesInstanceUID=f"{STUDY}.1",
            SOPInstanceUID=f"{STUDY}.1.{number}",
        )
    assert imported(tmp_path / "sent", tmp_path / "data") == "4 stored\n"
    return [
        tmp_path / f"data/objects/{STUDY}/{STUDY}.1/{STUDY}.1.{number}.dcm"
        for number in range(1, 5)
    ]


def test_import_stores_every_kind_as_it_is(tmp_path: Path) -> None:
    files = [sample(kind.file, tmp_path / "sent" / str(i)) for i, kind in enumerate(KINDS)]
    assert imported(tmp_path / "sent", tmp_path / "data") == f"{len(KINDS)} stored\n"
    stored = contents(tmp_path / "data" / "objects")
    assert stored == {file.stem: contents(file.parent)[file.stem] for file in files}
    assert imported(files[0], tmp_path / "data") == "0 stored, 1 identical\n"
    assert check(tmp_path / "data", code=0) == ["index and objects agree"]


def test_import_reports_bad_files_and_goes_on(tmp_path: Path) -> None:
    folder = tmp_path / "sent"
    good = made(folder)
    headless = made(folder, StudyInstanceUID=None)
    torn = made(folder, SOPInstanceUID="1.2.3.4")
    torn.write_bytes(torn.read_bytes()[:200])
    (folder / "notes.txt").write_text("no object")
    (folder / "empty").touch()
    said = imported(folder, tmp_path / "data", code=1)
    assert "1 stored, 2 no DICOM object, 2 failed" in said
    assert str(headless) in said
    assert str(torn) in said
    assert set(contents(tmp_path / "data" / "objects")) == {good.stem}


def test_import_of_nothing_is_said(tmp_path: Path) -> None:
    result = run_lfscp("import", tmp_path / "none", "--data-dir", tmp_path / "data")
    assert result.returncode == 2  # as of `lfscp send`
    assert "there is no such file or folder" in result.stderr


def test_imported_objects_are_found_and_retrieved(
    dcmtk: Any, four: list[Path], tmp_path: Path
) -> None:
    node = NodeProcess(tmp_path)
    try:
        node.start()
        keys = {"StudyInstanceUID": STUDY}
        result = dcmtk.get(node.port, "STUDY", keys, tmp_path / "got")
        assert result.status == 0x0000
        assert len(contents(tmp_path / "got")) == 4
        assert node.stop() == 0
    finally:
        node.kill()


def test_check_finds_and_changes_nothing(four: list[Path], tmp_path: Path) -> None:
    missing, truncated, altered, _ = four
    missing.unlink()
    truncated.write_bytes(truncated.read_bytes()[:-2])
    altered.write_bytes(altered.read_bytes()[:-1] + b"\x00")
    stray = altered.with_name(f"{STUDY}.1.9.dcm")
    stray.write_bytes(b"no DICOM file")
    for _ in range(2):
        lines = check(tmp_path / "data", code=1)
        found = {(line.partition(":")[0], Path(line.split()[-1]).name) for line in lines}
        problems = " ".join(lines)
        assert len(lines) == 5, found
        assert f"missing: {STUDY}/{STUDY}.1/{missing.name}" in problems
        assert f"wrong size: {STUDY}/{STUDY}.1/{truncated.name}" in problems
        assert f"wrong digest: {STUDY}/{STUDY}.1/{altered.name}" in problems
        assert f"left over: {STUDY}/{STUDY}.1/{stray.name}" in problems
        assert lines[-1].startswith("4 problems found")
    assert stray.exists()


def test_check_repair_mends_so_that_everything_can_be_sent_again(
    four: list[Path], tmp_path: Path
) -> None:
    data = tmp_path / "data"
    missing, truncated, altered, _ = four
    missing.unlink()
    truncated.write_bytes(truncated.read_bytes()[:-2])
    altered.write_bytes(altered.read_bytes()[:-1] + b"\x00")
    altered.with_name(f"{STUDY}.1.9.dcm").write_bytes(b"no DICOM file")
    assert check(data, "--repair", code=0)[-1] == "4 problems repaired"
    assert check(data, code=0) == ["index and objects agree"]
    aside = {path.name for path in (data / "quarantine").rglob("*.dcm")}
    assert aside == {truncated.name, altered.name, f"{STUDY}.1.9.dcm"}
    assert imported(tmp_path / "sent", data) == "3 stored, 1 identical\n"
    assert check(data, code=0) == ["index and objects agree"]


def test_check_repair_indexes_a_readable_file_again(four: list[Path], tmp_path: Path) -> None:
    data = tmp_path / "data"
    before = dataset_bytes(four[0])
    with closing(sqlite3.connect(data / "index.sqlite")) as index:
        index.execute("DELETE FROM instance")
        index.commit()
    assert len(check(data, code=1)) == 5
    lines = check(data, "--repair", code=0)
    assert sum("indexed again" in line for line in lines) == 4
    assert check(data, code=0) == ["index and objects agree"]
    assert dataset_bytes(four[0]) == before
    assert imported(tmp_path / "sent", data) == "0 stored, 4 identical\n"


def test_a_lost_file_is_stored_again_when_it_is_sent_again(
    dcmtk: Any, four: list[Path], tmp_path: Path
) -> None:
    shutil.rmtree(tmp_path / "data/objects" / STUDY)
    assert imported(tmp_path / "sent", tmp_path / "data") == "0 stored, 4 replaced\n"
    assert check(tmp_path / "data", code=0) == ["index and objects agree"]
    assert dcmread(four[0]).SOPInstanceUID == four[0].stem


# echo


def test_echo_of_a_node_and_of_dcmtk(dcmtk: Any, node: NodeProcess, tmp_path: Path) -> None:
    with dcmtk.storescp(tmp_path / "got") as port:
        for peer in (f"LFSCP@127.0.0.1:{node.port}", f"127.0.0.1:{port}"):
            result = run_lfscp("echo", peer)
            assert result.returncode == 0, result.stderr


def test_echo_says_why_there_is_no_answer(node: NodeProcess) -> None:
    closed = run_lfscp("echo", f"127.0.0.1:{free_port()}")
    assert closed.returncode == 1
    assert len(closed.stderr.splitlines()) == 1
    wrong = run_lfscp("echo", "nonsense")
    assert wrong.returncode == 2
    assert "AET@HOST:PORT" in wrong.stderr


def test_echo_says_that_it_was_rejected(dcmtk: Any, tmp_path: Path) -> None:
    with dcmtk.storescp(tmp_path / "got", "--refuse", answers_echo=False) as port:
        result = run_lfscp("echo", f"127.0.0.1:{port}")
    assert result.returncode == 1
    assert "rejected" in result.stderr
