"""Backup and restore: a copy of a moving archive that is whole, and goes on as a node's own."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import select

from lfscp.archive.archive import Archive
from lfscp.archive.correcting import Correction, confirm, require_changes, undo
from lfscp.archive.errors import ArchiveError, ArchiveInUseError
from lfscp.archive.index.tables.schema import study
from lfscp.archive.upkeep.backup import Report, backup
from lfscp.archive.upkeep.check import check
from lfscp.archive.upkeep.restore import restore
from lfscp.archive.workflow.procedure_steps.steps import ProcedureSteps
from lfscp.archive.workflow.worklist.worklist import Worklist
from lfscp.dicom.values.attributes import Level
from tests.support.archive_datasets import encoded, received
from tests.support.element_trees import tree_of
from tests.support.procedure_steps import started
from tests.support.worklist_items import worklist_tree

ROOT = Path(__file__).parents[3]
FIRST = "1.2.3/1.2.3.1/1.2.3.1.1.dcm"


@pytest.fixture
def archive(tmp_path: Path) -> Iterator[Archive]:
    with Archive.open(tmp_path / "data") as opened:
        for number in (1, 2, 3):
            opened.store(received(number))
        yield opened


def backed_up(archive: Archive, target: Path, **options: bool) -> tuple[Report, list[str]]:
    lines: list[str] = []
    data = archive.data_dir
    report = backup(data / "index.sqlite", data / "objects", target, tell=lines.append, **options)
    return report, lines


def restored(source: Path, data: Path, **options: bool) -> list[str]:
    lines: list[str] = []
    index, objects = data / "index.sqlite", data / "objects"
    restore(source, data, index=index, objects=objects, tell=lines.append, **options)
    return lines


def datasets(data: Path) -> dict[str, bytes]:
    with Archive.open(data) as opened:
        assert list(check(opened)) == []
        found = opened.select(Level.STUDY, {Level.STUDY: ["1.2.3"]})
        return {
            each.sop_instance_uid: each.path.read_bytes()[each.dataset_offset :] for each in found
        }


@pytest.mark.parametrize("copy", [False, True], ids=["linked", "copied"])
def test_a_backup_beside_an_open_archive_restores_what_was_stored(
    archive: Archive, tmp_path: Path, copy: bool
) -> None:
    report, lines = backed_up(archive, tmp_path / "backup", copy=copy, verify=True)
    assert lines == []
    assert report.counts == {"copied" if copy else "linked": 3}
    assert (report.manifest.objects, report.manifest.problems) == (3, 0)
    linked = (tmp_path / "backup/objects" / FIRST).samefile(archive.files.path(FIRST))
    assert linked is not copy
    assert restored(tmp_path / "backup", tmp_path / "new") == []
    assert datasets(tmp_path / "new") == {f"1.2.3.1.{n}": encoded(n) for n in (1, 2, 3)}


def test_a_second_backup_brings_what_is_new_and_drops_what_is_gone(
    archive: Archive, tmp_path: Path
) -> None:
    backed_up(archive, tmp_path / "backup", copy=True)
    archive.store(received(4))
    archive.delete(Level.IMAGE, "1.2.3.1.1")
    report, _ = backed_up(archive, tmp_path / "backup", copy=True)
    assert report.counts == {"kept": 2, "copied": 1, "dropped": 1}
    assert len(list((tmp_path / "backup").glob("index*"))) == 1
    restored(tmp_path / "backup", tmp_path / "new")
    assert set(datasets(tmp_path / "new")) == {"1.2.3.1.2", "1.2.3.1.3", "1.2.3.1.4"}


def test_what_is_kept_of_a_correction_comes_along(archive: Archive, tmp_path: Path) -> None:
    correct(archive, PatientName="Right^Name")
    report, lines = backed_up(archive, tmp_path / "backup", verify=True)
    assert lines == []
    assert report.counts == {"linked": 6}
    assert backed_up(archive, tmp_path / "backup")[0].counts == {"kept": 6}
    assert restored(tmp_path / "backup", tmp_path / "new") == []
    with Archive.open(tmp_path / "new") as opened:
        undo(opened, "c1")
    assert datasets(tmp_path / "new") == {f"1.2.3.1.{n}": encoded(n) for n in (1, 2, 3)}
    confirm(archive, "c1")
    assert backed_up(archive, tmp_path / "backup")[0].counts == {"kept": 3, "dropped": 3}


def correct(archive: Archive, **changes: str) -> None:
    with archive.index.engine.connect() as connection:
        (key,) = connection.execute(select(study.c.id)).scalars()
    made = Correction(archive, "c1", require_changes(changes), "LFSCP", "admin")
    made.begin()
    made.correct(key)
    made.end()


def other_archive(folder: Path, *numbers: int) -> Archive:
    opened = Archive.open(folder)
    for number in numbers:
        opened.store(received(number))
    return opened


@pytest.mark.parametrize("numbers", [(), (1, 2)], ids=["empty", "smaller"])
def test_the_backup_of_another_archive_is_not_dropped(
    archive: Archive, tmp_path: Path, numbers: tuple[int, ...]
) -> None:
    backed_up(archive, tmp_path / "backup", copy=True)
    with other_archive(tmp_path / "other", *numbers) as other:
        gone = 3 - len(numbers)
        wanted = (
            f"backup holds another archive: {gone} of its 3 objects would be dropped;.*data_dir"
        )
        with pytest.raises(ArchiveError, match=wanted):
            backed_up(other, tmp_path / "backup")
        restored(tmp_path / "backup", tmp_path / "new")
        assert len(datasets(tmp_path / "new")) == 3

        report, _ = backed_up(other, tmp_path / "backup", replace=True)
        assert report.counts["dropped"] == gone
        assert backed_up(other, tmp_path / "backup")[0].counts["dropped"] == 0


def test_an_archive_that_lost_most_of_its_objects_keeps_its_backup(
    archive: Archive, tmp_path: Path
) -> None:
    for number in range(4, 21):
        archive.store(received(number))
    backed_up(archive, tmp_path / "backup", copy=True)
    for number in range(1, 13):
        archive.delete(Level.IMAGE, f"1.2.3.1.{number}")
    with pytest.raises(ArchiveError, match="would lose most of what it has: 12 of its 20 objects"):
        backed_up(archive, tmp_path / "backup")
    assert backed_up(archive, tmp_path / "backup", replace=True)[0].counts["dropped"] == 12


def test_what_was_restored_goes_on_with_the_backup_it_came_from(
    archive: Archive, tmp_path: Path
) -> None:
    backed_up(archive, tmp_path / "backup")
    restored(tmp_path / "backup", tmp_path / "new")
    with Archive.open(tmp_path / "new") as new:
        new.delete(Level.IMAGE, "1.2.3.1.1")
        assert backed_up(new, tmp_path / "backup")[0].counts["dropped"] == 1


def test_an_object_stored_anew_under_its_old_name_is_brought_again(
    archive: Archive, tmp_path: Path
) -> None:
    backed_up(archive, tmp_path / "backup")
    archive.delete(Level.IMAGE, "1.2.3.1.1")
    archive.store(received(1, pixels=b"\1" * 64))
    _, lines = backed_up(archive, tmp_path / "backup", verify=True)
    assert lines == []
    restored(tmp_path / "backup", tmp_path / "new")
    assert datasets(tmp_path / "new")["1.2.3.1.1"] == encoded(1, pixels=b"\1" * 64)


def test_jobs_and_protected_studies_come_along(archive: Archive, tmp_path: Path) -> None:
    with archive.index.writing() as connection:
        connection.exec_driver_sql("INSERT INTO job (id, state) VALUES ('J1', 'sleeping')")
        connection.exec_driver_sql("INSERT INTO protection VALUES ('1.2.3', 1)")
    backed_up(archive, tmp_path / "backup")
    restored(tmp_path / "backup", tmp_path / "new")
    with Archive.open(tmp_path / "new") as new, new.index.engine.connect() as connection:
        rows = connection.exec_driver_sql("SELECT id FROM job, protection").scalars().all()
        assert rows == ["J1"]


def test_worklist_and_procedure_steps_come_along(archive: Archive, tmp_path: Path) -> None:
    item = Worklist(archive.index).add(worklist_tree())
    ProcedureSteps(archive.index).create("1.2.3.4", tree_of(started()), "CT01")
    backed_up(archive, tmp_path / "backup")
    restored(tmp_path / "backup", tmp_path / "new")
    with Archive.open(tmp_path / "new") as new:
        assert Worklist(new.index).get(item) == Worklist(archive.index).get(item)
        steps = ProcedureSteps(archive.index)
        assert ProcedureSteps(new.index).get("1.2.3.4") == steps.get("1.2.3.4")


def test_a_backup_of_an_archive_that_changes_all_the_while_is_whole(
    archive: Archive, tmp_path: Path
) -> None:
    """Objects come and go from several threads; each backup agrees with itself."""
    is_over = threading.Event()

    def change(thread: int) -> None:
        number = 1000 * thread
        while not is_over.is_set() and number < 1000 * thread + 900:
            archive.store(received(number))
            if number % 3 == 0:
                archive.delete(Level.IMAGE, f"1.2.3.1.{number}")
                archive.store(received(number, pixels=b"\1" * 64))
            if number % 3 == 1:
                archive.delete(Level.IMAGE, f"1.2.3.1.{number}")
            number += 1

    threads = [threading.Thread(target=change, args=(thread,)) for thread in (1, 2, 3)]
    for thread in threads:
        thread.start()
    try:
        for turn in range(4):
            report, lines = backed_up(archive, tmp_path / "backup", verify=True, copy=turn == 3)
            assert lines == []
            assert report.manifest.objects >= 3
            restored(tmp_path / "backup", tmp_path / f"new{turn}")
            assert datasets(tmp_path / f"new{turn}").keys() >= {f"1.2.3.1.{n}" for n in (1, 2, 3)}
    finally:
        is_over.set()
        for thread in threads:
            thread.join()


@pytest.mark.parametrize("damage", ["missing", "cut", "changed", "head"])
def test_what_is_wrong_at_the_source_is_said_and_the_rest_is_saved(
    archive: Archive, tmp_path: Path, damage: str
) -> None:
    path = archive.files.path(FIRST)
    content = path.read_bytes()
    if damage == "missing":
        path.unlink()
    elif damage == "head":
        path.write_bytes(content[:128] + b"NONE" + content[132:])
        os.utime(path, (1, 1))
    else:
        path.write_bytes(content[:-1] + (b"\xff" if damage == "changed" else b""))
        os.utime(path, (1, 1))  # long ago, so that only a verifying backup reads it
    report, lines = backed_up(archive, tmp_path / "backup", verify=True)
    assert [line.partition(":")[0] for line in lines] == [FIRST]
    assert report.manifest.problems == 1
    restored(tmp_path / "backup", tmp_path / "new")
    with Archive.open(tmp_path / "new") as new:
        assert [finding.path for finding in check(new)] == [FIRST]


BACKUP = """
import sys
from pathlib import Path
from lfscp.archive.upkeep import backup
def tell_and_wait(source, target, bring=backup.Copier.bring):
    print("bringing", flush=True)
    sys.stdin.readline()
backup.Copier.bring = lambda self, source, target: tell_and_wait(source, target)
data = Path(sys.argv[1])
backup.backup(data / "index.sqlite", data / "objects", Path(sys.argv[2]))
"""


@pytest.mark.parametrize("first", [True, False], ids=["the first", "a later one"])
def test_a_backup_that_is_killed_leaves_none_or_the_one_before(
    archive: Archive, tmp_path: Path, first: bool
) -> None:
    target = tmp_path / "backup"
    if not first:
        backed_up(archive, target)
        archive.store(received(4))
    command = [sys.executable, "-c", BACKUP, archive.data_dir, target]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, cwd=ROOT, **pipes) as process:  # type: ignore[call-overload]
        try:
            assert process.stdout.readline() == b"bringing\n"
            with pytest.raises(ArchiveInUseError):
                backed_up(archive, target)
        finally:
            process.kill()
    if first:
        with pytest.raises(ArchiveError, match=r"no backup\.json"):
            restored(target, tmp_path / "new")
    else:
        restored(target, tmp_path / "new")
        assert len(datasets(tmp_path / "new")) == 3
    _, lines = backed_up(archive, target)
    assert lines == []
    restored(target, tmp_path / "newer")
    assert len(datasets(tmp_path / "newer")) == (3 if first else 4)


def test_a_restore_that_was_cut_off_is_no_archive_until_it_has_ended(
    archive: Archive, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    backed_up(archive, tmp_path / "backup")

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("lfscp.archive.upkeep.restore._bring_index", interrupt)
        with pytest.raises(KeyboardInterrupt):
            restored(tmp_path / "backup", tmp_path / "new")
    with pytest.raises(ArchiveError, match="did not end"):
        Archive.open(tmp_path / "new")
    restored(tmp_path / "backup", tmp_path / "new")
    assert len(datasets(tmp_path / "new")) == 3


def test_a_restore_takes_an_empty_folder_only_and_none_that_is_in_use(
    archive: Archive, tmp_path: Path
) -> None:
    backed_up(archive, tmp_path / "backup")
    with pytest.raises(ArchiveInUseError):
        restored(tmp_path / "backup", archive.data_dir)
    archive.close()
    with pytest.raises(ArchiveError, match="is there already"):
        restored(tmp_path / "backup", archive.data_dir)


def test_a_damaged_backup_is_not_restored(archive: Archive, tmp_path: Path) -> None:
    report, _ = backed_up(archive, tmp_path / "backup")
    index = tmp_path / "backup" / report.manifest.index
    index.write_bytes(index.read_bytes()[:-1] + b"\xff")
    with pytest.raises(ArchiveError, match="damaged"):
        restored(tmp_path / "backup", tmp_path / "new")
    manifest = tmp_path / "backup/backup.json"
    manifest.write_text(json.dumps({"format": 1}))
    with pytest.raises(ArchiveError, match="cannot be read"):
        restored(tmp_path / "backup", tmp_path / "new")


def test_a_damaged_index_is_not_backed_up(archive: Archive, tmp_path: Path) -> None:
    archive.close()
    index = archive.data_dir / "index.sqlite"
    with index.open("rb+") as file:
        file.seek(5 * 4096)
        file.write(b"\xff" * 4096 * 10)
    with pytest.raises(ArchiveError, match="back up"):
        backed_up(archive, tmp_path / "backup")
    assert not (tmp_path / "backup/backup.json").exists()


def test_what_cannot_be_backed_up_is_said(archive: Archive, tmp_path: Path) -> None:
    with pytest.raises(ArchiveError, match="no index"):
        backup(tmp_path / "none", tmp_path, tmp_path / "backup")
    with pytest.raises(ArchiveError, match="inside the objects"):
        backed_up(archive, archive.data_dir / "objects/backup")


def test_the_copy_of_the_index_is_of_one_moment_and_stands_alone(
    archive: Archive, tmp_path: Path
) -> None:
    report, _ = backed_up(archive, tmp_path / "backup")
    assert {path.name for path in (tmp_path / "backup").iterdir()} == {
        "backup.json",
        "backup.lock",
        "objects",
        report.manifest.index,
    }
    with sqlite3.connect(tmp_path / "backup" / report.manifest.index) as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("delete",)
    connection.close()
