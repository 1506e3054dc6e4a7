"""A folder of worklist files and its items: what comes, changes, goes, is broken, or is away."""

from __future__ import annotations

import json
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from lfscp.archive.errors import ArchiveError
from lfscp.archive.index.index import Index
from lfscp.archive.node_id import node_id
from lfscp.archive.workflow.worklist.item import PATIENT_ID, STATUS, STEPS, STUDY_INSTANCE_UID
from lfscp.archive.workflow.worklist.worklist import Worklist
from lfscp.archive.workflow.worklist_folder import files as folder_files
from lfscp.archive.workflow.worklist_folder import folder as worklist_folder
from lfscp.archive.workflow.worklist_folder.folder import WorklistFolder, forget_folder, source_of
from lfscp.archive.workflow.worklist_folder.turn import FolderTurn
from lfscp.archive.workflow.worklist_folder.watch import FolderWatch
from lfscp.observe.logging import configure
from tests.support.dicom_peer import until
from tests.support.worklist_files import bare, cut_in_an_element, part10, put, rewrite
from tests.support.worklist_items import worklist_tree

Lines = Callable[[], list[dict[str, Any]]]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "worklist"
    made.mkdir()
    return made


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    made = tmp_path / "data"
    made.mkdir()
    node_id(made)  # as a node has it before it starts threads and processes
    return made


@pytest.fixture
def seen(worklist: Worklist, folder: Path, data_dir: Path) -> WorklistFolder:
    return WorklistFolder(worklist, folder, data_dir, tells=True)


@pytest.fixture
def log(tmp_path: Path) -> Iterator[Lines]:
    """The log's lines since the last call."""
    file = tmp_path / "log"
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    configure("info", "json", descriptor=descriptor)
    read = 0

    def lines() -> list[dict[str, Any]]:
        nonlocal read
        found = file.read_text().splitlines()[read:]
        read += len(found)
        return [json.loads(line) for line in found]

    yield lines
    configure("info")
    os.close(descriptor)


def patients(worklist: Worklist) -> list[str]:
    return sorted(item.dataset.text(PATIENT_ID) for item in worklist.items(limit=100_000))


def files(worklist: Worklist) -> list[str]:
    return sorted(item.source_key for item in worklist.items(limit=100_000))


def test_files_that_come_change_and_go_are_seen_at_the_next_query(
    seen: WorklistFolder, worklist: Worklist, folder: Path
) -> None:
    seen.before_query()
    assert patients(worklist) == []
    put(folder / "one.wl", part10(1))
    put(folder / "two.wl", bare(2))
    seen.before_query()
    assert patients(worklist) == ["P1", "P2"]
    put(folder / "one.wl", bare(1, PatientID="P3"))
    seen.before_query()
    assert patients(worklist) == ["P2", "P3"]
    (folder / "two.wl").unlink()
    (folder / "one.wl").rename(folder / "other.wl")
    seen.before_query()
    assert files(worklist) == ["other.wl"]


def test_a_file_written_in_place_within_one_tick_of_the_clock_is_seen_as_it_was_left(
    seen: WorklistFolder, worklist: Worklist, folder: Path
) -> None:
    path = put(folder / "one.wl", bare(1), at=int(time.time()))
    seen.before_query()
    rewrite(path, bare(1, PatientID="P9"), keeps_time=True)
    seen.before_query()
    assert patients(worklist) == ["P9"]


def test_a_new_file_is_put_again_once_its_time_tells_it_from_a_later_one(
    seen: WorklistFolder,
    worklist: Worklist,
    folder: Path,
    data_dir: Path,
    monkeypatch: pytest.MonkeyPatch,
    log: Lines,
) -> None:
    put(folder / "one.wl", bare(1), at=int(time.time()))
    seen.compare()
    (fingerprint,) = worklist.fingerprints(source_of(data_dir)).values()
    assert fingerprint.endswith("?")
    assert not seen.is_settled
    (before,) = worklist.items()
    seen.compare()
    assert worklist.items() == [before]  # nothing is written while nothing differs
    monkeypatch.setattr(folder_files, "SETTLED_S", -1.0)
    seen.compare()
    assert worklist.fingerprints(source_of(data_dir)) == {"one.wl": fingerprint[:-1]}
    assert [line["files"] for line in log()] == [1]


def test_names_in_any_case_and_one_folder_deep_count_and_others_do_not(
    seen: WorklistFolder, worklist: Worklist, folder: Path
) -> None:
    (folder / "CT01" / "deeper").mkdir(parents=True)
    (folder / "folder.wl").mkdir()
    for number, name in enumerate(
        ("a.wl", "b.WL", "CT01/c.Wl", "CT01/deeper/d.wl", ".e.wl", "f.dcm", "a.wl.bak"), 1
    ):
        put(folder / name, bare(number))
    (folder / "lockfile").touch()
    (folder / "CT01" / "lockfile").touch()
    os.mkfifo(folder / "pipe.wl")
    (folder / "nowhere.wl").symlink_to(folder / "not-there")
    seen.before_query()
    assert files(worklist) == ["CT01/c.Wl", "a.wl", "b.WL"]
    put(folder / "CT01" / "g.wl", bare(8))
    seen.before_query()
    assert "CT01/g.wl" in files(worklist)
    shutil.rmtree(folder / "CT01")
    seen.before_query()
    assert files(worklist) == ["a.wl", "b.WL"]


def test_a_name_that_is_no_utf_8_is_a_name(
    seen: WorklistFolder, worklist: Worklist, folder: Path
) -> None:
    path = folder / os.fsdecode(b"M\xfcller.wl")
    put(path, bare(1))
    seen.before_query()
    assert files(worklist) == ["M\\xfcller.wl"]
    path.unlink()
    seen.before_query()
    assert files(worklist) == []


def test_a_name_that_is_no_utf_8_does_not_end_the_watch(
    seen: WorklistFolder, worklist: Worklist, folder: Path, log: Lines
) -> None:
    watch = FolderWatch(seen)
    watch.start()
    try:
        for number, name in enumerate((b"M\xfcller.wl", b"other.wl"), 1):
            put(folder / os.fsdecode(name), bare(number))
            assert until(lambda: len(files(worklist)) == number, 60)  # noqa: B023 - at once
    finally:
        watch.stop()
    assert [each for each in log() if each["level"] != "info"] == []


def test_a_broken_file_is_named_once_and_tried_again_when_it_changes(
    seen: WorklistFolder, worklist: Worklist, folder: Path, log: Lines
) -> None:
    put(folder / "good.wl", bare(1))
    put(folder / "text.wl", b"no dataset at all")
    put(folder / "cut.wl", cut_in_an_element(bare(2)))
    put(folder / "empty.wl", b"")
    put(folder / "lacks.wl", bare(3, PatientID=None))
    for _ in range(3):
        seen.compare()
    assert files(worklist) == ["good.wl"]
    named = {line["file"]: line["reason"] for line in log() if line["level"] == "warning"}
    assert named.keys() == {"text.wl", "cut.wl", "empty.wl", "lacks.wl"}
    assert named["lacks.wl"].startswith("PatientID is missing")
    assert named["empty.wl"] == "the file is empty"
    put(folder / "lacks.wl", bare(3))
    put(folder / "cut.wl", bare(2)[:-3], at=1_700_000_001)
    seen.compare()
    assert files(worklist) == ["good.wl", "lacks.wl"]
    assert [line["file"] for line in log() if line["level"] == "warning"] == ["cut.wl"]


def test_several_broken_files_are_named_though_each_process_sees_them(
    seen: WorklistFolder, worklist: Worklist, folder: Path, data_dir: Path, log: Lines
) -> None:
    put(folder / "text.wl", b"no dataset at all")
    worker = WorklistFolder(worklist, folder, data_dir)
    worker.before_query()
    assert log() == []
    seen.compare()
    worker.before_query()
    assert [line["file"] for line in log()] == ["text.wl"]


def test_a_file_of_a_gigabyte_is_refused_by_its_size(
    seen: WorklistFolder, worklist: Worklist, folder: Path, log: Lines
) -> None:
    with (folder / "huge.wl").open("wb") as file:
        file.write(bare(1))
        file.truncate(1 << 30)
    os.utime(folder / "huge.wl", (1, 1))
    seen.compare()
    assert files(worklist) == []
    (line,) = log()
    assert line["reason"] == "it has 1073741824 bytes, more than 1 MB"


def test_a_file_half_written_is_no_warning_and_its_item_stays_until_it_is_whole(
    seen: WorklistFolder,
    worklist: Worklist,
    folder: Path,
    log: Lines,
) -> None:
    path = put(folder / "one.wl", bare(1))
    seen.compare()
    log()
    rewrite(path, bare(1, PatientID="P9")[:-5])
    seen.compare()
    seen.compare()
    assert patients(worklist) == ["P1"]
    assert not seen.is_settled
    assert log() == []
    rewrite(path, bare(1, PatientID="P9"))
    seen.compare()
    assert patients(worklist) == ["P9"]


def test_a_folder_is_not_settled_before_its_broken_files_are_named(
    seen: WorklistFolder,
    worklist: Worklist,
    folder: Path,
    data_dir: Path,
    log: Lines,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Else the thread that watches would wait for the next comparison of all files."""
    monkeypatch.setattr(worklist_folder, "SETTLED_S", 0.0)
    monkeypatch.setattr(folder_files, "_PATIENCE_S", 3600.0)
    worker = WorklistFolder(worklist, folder, data_dir)
    path = put(folder / "one.wl", b"no dataset at all")
    os.utime(path, (time.time() - 60, time.time() - 60))
    for each in (seen, worker):
        each.compare()
        assert not each.is_settled
    monkeypatch.setattr(folder_files, "_PATIENCE_S", 30.0)
    assert worker.is_settled
    assert not seen.is_settled
    seen.compare()
    assert seen.is_settled
    assert [line["file"] for line in log()] == ["one.wl"]


def test_a_file_that_stays_broken_loses_its_item(
    seen: WorklistFolder,
    worklist: Worklist,
    folder: Path,
    log: Lines,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path = put(folder / "one.wl", bare(1))
    seen.compare()
    log()
    rewrite(path, bare(1)[:-5])
    seen.compare()
    assert files(worklist) == ["one.wl"]
    monkeypatch.setattr(folder_files, "_PATIENCE_S", -1.0)
    seen.compare()
    assert files(worklist) == []
    assert [line["event"] for line in log()] == [
        "a worklist file is not taken",
        "worklist files taken",
    ]


def test_a_file_that_cannot_be_read_is_named_and_keeps_its_item(
    seen: WorklistFolder, worklist: Worklist, folder: Path, log: Lines
) -> None:
    path = put(folder / "one.wl", bare(1))
    seen.compare()
    log()
    path.unlink()
    path.symlink_to("one.wl")  # a link to itself; root may read everything else
    seen.compare()
    assert log() == []
    for broken in seen._files._broken.values():
        broken.since -= 60
    seen.compare()
    seen.compare()
    assert files(worklist) == ["one.wl"]
    (line,) = log()
    assert line["file"] == "one.wl"
    assert line["reason"] == "Too many levels of symbolic links"


def test_a_folder_in_it_that_cannot_be_read_keeps_its_items_and_holds_up_no_others(
    seen: WorklistFolder,
    worklist: Worklist,
    folder: Path,
    log: Lines,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (folder / "CT01").mkdir()
    put(folder / "CT01" / "a.wl", bare(1))
    put(folder / "b.wl", bare(2))
    seen.compare()
    scandir = os.scandir

    def closed(path: str) -> Any:
        if str(path).endswith("CT01"):  # as lost+found of a volume that is mounted
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    log()
    monkeypatch.setattr(os, "scandir", closed)
    put(folder / "c.wl", bare(3))
    (folder / "b.wl").unlink()
    seen.compare()
    seen.compare()

    assert files(worklist) == ["CT01/a.wl", "c.wl"]
    [line] = [each for each in log() if each["level"] == "warning"]
    assert line["event"] == "a folder in the worklist folder cannot be read, its items stay"
    assert (line["folder"], line["reason"]) == (str(folder / "CT01"), "Permission denied")
    assert str(folder / "CT01") not in seen.folders  # it cannot be watched either
    monkeypatch.undo()
    (folder / "CT01" / "a.wl").unlink()
    seen.compare()
    assert files(worklist) == ["c.wl"]


def test_a_changed_file_keeps_the_status_and_the_identifiers_of_its_item(
    seen: WorklistFolder, index: Index, worklist: Worklist, folder: Path
) -> None:
    path = put(folder / "one.wl", bare(1, StudyInstanceUID=None))
    seen.before_query()
    (before,) = worklist.items()
    study_uid = before.dataset.text(STUDY_INSTANCE_UID)
    with index.writing() as connection:
        worklist.set_step_status(
            connection,
            study_uid=study_uid,
            step_id="S1",
            accession_number="",
            status="STARTED",
            procedure_step_uid="1.2",
        )
    put(path, bare(1, StudyInstanceUID=None, PatientName="Doe^Janet"))
    seen.before_query()
    (after,) = worklist.items()
    assert after.id == before.id
    assert after.dataset.text(STUDY_INSTANCE_UID) == study_uid
    assert after.dataset.sequence(STEPS)[0].text(STATUS) == "STARTED"


def test_a_folder_that_is_away_changes_nothing_and_is_named_once(
    seen: WorklistFolder, worklist: Worklist, folder: Path, log: Lines
) -> None:
    put(folder / "one.wl", bare(1))
    seen.compare()
    log()
    away = folder.rename(folder.with_name("away"))
    for _ in range(3):
        seen.before_query()
    assert files(worklist) == ["one.wl"]
    assert seen.folders == {}
    (line,) = log()
    assert line["event"] == "the worklist folder is not there, its items stay"
    (away / "one.wl").unlink()
    put(away / "two.wl", bare(2))
    away.rename(folder)
    seen.before_query()
    assert files(worklist) == ["two.wl"]
    assert log()[0]["event"] == "the worklist folder is there again"


def test_an_empty_folder_in_its_place_is_a_volume_that_is_not_mounted(
    seen: WorklistFolder, worklist: Worklist, folder: Path, data_dir: Path, log: Lines
) -> None:
    put(folder / "one.wl", bare(1))
    seen.compare()
    log()
    mounted = folder.rename(folder.with_name("mounted"))
    folder.mkdir()
    seen.compare()
    restarted = WorklistFolder(worklist, folder, data_dir, tells=True)
    restarted.compare()
    assert files(worklist) == ["one.wl"]
    assert [line["event"] for line in log()] == [
        "the worklist folder is not there, its items stay"
    ] * 2
    folder.rmdir()
    mounted.rename(folder)
    (folder / "one.wl").unlink()
    restarted.compare()
    assert files(worklist) == []


def test_another_folder_with_files_takes_the_place_of_the_one_before(
    seen: WorklistFolder, worklist: Worklist, folder: Path, data_dir: Path, tmp_path: Path
) -> None:
    put(folder / "one.wl", bare(1))
    seen.compare()
    folder.rename(folder.with_name("away"))
    folder.mkdir()
    put(folder / "two.wl", bare(2))
    seen.before_query()
    assert files(worklist) == ["two.wl"]
    other = tmp_path / "other"
    other.mkdir()
    WorklistFolder(worklist, other, data_dir).before_query()
    assert files(worklist) == []


def test_nodes_that_share_an_index_leave_each_other_s_items_alone(
    seen: WorklistFolder, worklist: Worklist, folder: Path, data_dir: Path, tmp_path: Path
) -> None:
    other_data, other_folder = tmp_path / "data2", tmp_path / "worklist2"
    other_data.mkdir()
    other_folder.mkdir()
    other = WorklistFolder(worklist, other_folder, other_data)
    worklist.add(worklist_tree(3))
    put(folder / "one.wl", bare(1))
    put(other_folder / "one.wl", bare(2))
    for each in (seen, other, seen):
        each.before_query()
    assert patients(worklist) == ["P1", "P2", "P3"]
    (folder / "one.wl").unlink()
    seen.before_query()
    assert patients(worklist) == ["P2", "P3"]
    forget_folder(worklist, data_dir)
    assert patients(worklist) == ["P2", "P3"]
    forget_folder(worklist, other_data)
    assert patients(worklist) == ["P3"]


def test_processes_that_compare_at_once_agree_with_the_folder_in_the_end(
    worklist: Worklist, folder: Path, data_dir: Path
) -> None:
    """Each thread stands for a process: the lock's file is opened by each comparison."""
    done = threading.Event()

    def compare() -> None:
        seen = WorklistFolder(worklist, folder, data_dir)
        while not done.is_set():
            seen.before_query()

    threads = [threading.Thread(target=compare) for _ in range(4)]
    for thread in threads:
        thread.start()
    for turn in range(40):
        for number in range(5):
            path = folder / f"{number}.wl"
            if (turn + number) % 3 == 0:
                path.unlink(missing_ok=True)
            elif (turn + number) % 3 == 1:
                put(path, bare(number, PatientID=f"{number}-{turn}"), at=int(time.time()))
            elif path.exists():
                rewrite(path, bare(number, PatientID=f"{number}+{turn}"))
    last = [(name, f"{name}-last") for name in ("0", "1", "3")]
    for path in folder.iterdir():
        path.unlink()
    for name, patient in last:
        put(folder / f"{name}.wl", bare(int(name), PatientID=patient))
    done.set()
    for thread in threads:
        thread.join()
    WorklistFolder(worklist, folder, data_dir).before_query()
    assert patients(worklist) == [patient for _, patient in last]
    assert len(worklist.fingerprints(source_of(data_dir))) == 3


def test_a_query_does_not_wait_for_ever_for_others_who_read_the_folder(
    seen: WorklistFolder,
    worklist: Worklist,
    folder: Path,
    data_dir: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(worklist_folder, "_QUERY_WAITS_S", 0.0)
    put(folder / "one.wl", bare(1))
    with FolderTurn(data_dir, folder).taken(0.0) as is_held:
        assert is_held
        seen.before_query()
        assert files(worklist) == []
    seen.before_query()
    assert files(worklist) == ["one.wl"]


def test_a_query_is_answered_though_the_index_takes_no_changes(
    seen: WorklistFolder,
    worklist: Worklist,
    folder: Path,
    log: Lines,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    put(folder / "one.wl", bare(1))

    def fail(*_: object) -> None:
        raise ArchiveError("keep the worklist items", "database or disk is full")

    with monkeypatch.context() as patched:
        patched.setattr(worklist, "put_valid", fail)
        seen.before_query()
        seen.before_query()
    (line,) = log()
    assert "disk is full" in line["reason"]
    seen.before_query()
    assert files(worklist) == ["one.wl"]


def test_a_settled_folder_is_not_listed_again(
    seen: WorklistFolder, worklist: Worklist, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(folder / "one.wl", bare(1))
    monkeypatch.setattr(worklist_folder, "SETTLED_S", 0.0)
    seen.before_query()
    assert seen.is_settled
    with monkeypatch.context() as patched:
        patched.setattr(worklist_folder, "list_folder", lambda _: pytest.fail("listed"))
        seen.before_query()
    put(folder / "two.wl", bare(2))
    seen.before_query()
    assert files(worklist) == ["one.wl", "two.wl"]
