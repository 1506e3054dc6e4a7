"""A small object whose file a power cut kept from the disk is whole after the next start."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from lfscp.archive import late_sync
from lfscp.archive.archive import Archive, StoreOutcome
from lfscp.archive.correcting import Correction, undo
from lfscp.archive.data_folder import COMMANDS_FILE
from lfscp.archive.errors import OutOfResourcesError
from lfscp.archive.index.browsing import browse
from lfscp.archive.index.database.database import sqlite_url
from lfscp.archive.index.tables.maintenance_tables import writer_name
from lfscp.archive.store import files as object_files
from lfscp.archive.store.files import ObjectFiles
from lfscp.archive.upkeep.backup import backup
from lfscp.archive.upkeep.check import check
from lfscp.archive.upkeep.rebuild import rebuild
from lfscp.archive.upkeep.restore import restore
from lfscp.dicom.values.attributes import Level
from tests.support.archive_datasets import encoded, received
from tests.support.small_disk import fill, small_disk

LONG_S = 1000.0
DEADLINE_S = 30.0
UID = "1.2.3.1.1"
PATH = f"objects/1.2.3/1.2.3.1/{UID}.dcm"


@pytest.fixture(autouse=True)
def disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take the tests' folder for a disk, and let nothing be synced before it is closed."""
    monkeypatch.setattr(object_files, "is_named_by_sync", lambda _: True)
    monkeypatch.setattr(late_sync, "_DELAY_S", LONG_S)


@pytest.fixture
def archive(tmp_path: Path) -> Iterator[Archive]:
    with Archive.open(tmp_path / "data", duplicates="replace") as opened:
        yield opened


def kept(archive: Archive) -> list[str]:
    """The files whose bytes are in the index."""
    with archive.index.engine.connect() as connection:
        found = connection.exec_driver_sql("SELECT path FROM unsynced_object ORDER BY id")
        return [path for (path,) in found]


def cut(archive: Archive) -> Path:
    """The data folder as a power cut leaves it now: copied while the archive is open."""
    after = archive.data_dir.with_name("after")
    shutil.copytree(archive.data_dir, after)
    return after


def remove(file: Path) -> None:
    file.unlink()


def remove_study(file: Path) -> None:
    shutil.rmtree(file.parents[1])


def empty(file: Path) -> None:
    os.truncate(file, 0)


def halve(file: Path) -> None:
    os.truncate(file, file.stat().st_size // 2)


def change(file: Path) -> None:
    file.write_bytes(bytes(file.stat().st_size))


def dataset_in(archive: Archive, uid: str = UID) -> bytes:
    (found,) = archive.select(Level.IMAGE, {Level.IMAGE: [uid]})
    return archive.files.file_of(found).read_bytes()[found.dataset_offset :]


@pytest.mark.parametrize("harm", [remove, remove_study, empty, halve, change])
def test_what_the_index_keeps_is_written_again(
    archive: Archive, harm: Callable[[Path], None]
) -> None:
    archive.store(received(1))
    after = cut(archive)
    harm(after / PATH)
    with Archive.open(after) as again:
        assert dataset_in(again) == encoded(1)
        assert list(check(again)) == []
        assert list(again.files.pieces()) == []
        assert kept(again) == []


def test_what_a_power_cut_left_of_another_file_is_not_in_the_way(
    archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a container the process that starts has the same number as the one before."""
    archive.store(received(1))
    with monkeypatch.context() as patched:
        patched.setattr(object_files, "_unlink", lambda _: None)
        for _ in range(3):
            archive.files.require_journal()  # type: ignore[union-attr]
    after = cut(archive)
    remove(after / PATH)
    with Archive.open(after) as again:
        assert dataset_in(again) == encoded(1)
        assert list(again.files.pieces()) == []


def test_what_is_synced_leaves_the_index(archive: Archive, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(late_sync, "_DELAY_S", 0)
    archive.store(received(1))
    until = time.monotonic() + DEADLINE_S
    while kept(archive):
        assert time.monotonic() < until
        time.sleep(0.01)
    archive.store(received(2))
    while kept(archive):
        assert time.monotonic() < until
        time.sleep(0.01)


def test_an_archive_that_is_closed_keeps_nothing(archive: Archive) -> None:
    archive.store(received(1))
    assert len(kept(archive)) == 1
    archive.close()
    with Archive.open(archive.data_dir) as again:
        assert kept(again) == []
        assert dataset_in(again) == encoded(1)


def test_a_deleted_object_stays_deleted(archive: Archive) -> None:
    archive.store(received(1))
    archive.delete(Level.IMAGE, UID)
    with Archive.open(cut(archive)) as again:
        assert list(again.files.walk()) == []
        assert kept(again) == []


@pytest.mark.parametrize("harm", [remove, empty])
def test_of_a_replaced_object_the_newer_one_is_written_again(
    archive: Archive, harm: Callable[[Path], None]
) -> None:
    archive.store(received(1))
    assert archive.store(received(1, pixels=b"\1" * 64)).outcome is StoreOutcome.REPLACED
    (path,) = archive.files.walk()
    after = cut(archive)
    harm(after / "objects" / path)
    with Archive.open(after) as again:
        assert dataset_in(again) == encoded(1, pixels=b"\1" * 64)
        assert list(again.files.walk()) == [path]
        assert list(check(again)) == []


def test_a_name_that_another_object_has_by_now_is_left_to_it(
    archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive.store(received(1))
    archive.delete(Level.IMAGE, UID)
    monkeypatch.setattr(late_sync, "MAX_SIZE", 0)
    archive.store(received(1, pixels=b"\2" * 64))
    assert len(kept(archive)) == 1
    with Archive.open(cut(archive)) as again:
        assert dataset_in(again) == encoded(1, pixels=b"\2" * 64)
        assert list(check(again)) == []


def test_after_a_sync_that_failed_the_bytes_stay_and_each_store_syncs(
    archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(descriptor: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(late_sync, "_DELAY_S", 0)
    monkeypatch.setattr(late_sync, "sync_file_system", broken)
    archive.store(received(1))
    late = archive._storing._late_sync
    until = time.monotonic() + DEADLINE_S
    while late.takes(1):
        assert time.monotonic() < until
        time.sleep(0.01)
    archive.store(received(2))
    assert [Path(path).stem for path in kept(archive)] == [UID]


def test_only_the_process_that_keeps_bytes_takes_them_out(archive: Archive) -> None:
    archive.store(received(1))
    with archive.index.transaction() as cursor:
        cursor.execute("INSERT INTO unsynced_object VALUES (2, 'another', 'a', x'00')")
    archive._storing._late_sync._sync()
    assert kept(archive) == ["a"]


@pytest.mark.parametrize(
    "options", [{"digest": None}, {"durability": "os"}], ids=["no digest", "no syncs"]
)
def test_nothing_is_kept_that_could_not_be_proven_or_need_not(
    tmp_path: Path, options: dict[str, str | None]
) -> None:
    with Archive.open(tmp_path / "data", **options) as archive:
        archive.store(received(1))
        assert kept(archive) == []


def test_large_objects_are_synced_as_they_are_stored(archive: Archive) -> None:
    archive.store(received(1, pixels=bytes(late_sync.MAX_SIZE)))
    assert kept(archive) == []


def test_an_index_that_is_built_anew_has_what_the_old_one_kept(archive: Archive) -> None:
    archive.store(received(1))
    after = cut(archive)
    empty(after / PATH)
    findings = list(
        rebuild(
            after / "index.sqlite",
            lambda index: Archive.open(after, index_url=sqlite_url(index)),
        )
    )
    assert [found for found in findings if not isinstance(found, Path)] == []
    with Archive.open(after) as again:
        assert dataset_in(again) == encoded(1)


def test_an_object_whose_file_was_missing_is_kept_as_it_comes_again(archive: Archive) -> None:
    archive.store(received(1))
    archive._storing._late_sync._sync()
    (archive.data_dir / PATH).unlink()
    assert archive.store(received(1)).outcome is StoreOutcome.REPLACED
    after = cut(archive)
    empty(after / PATH)
    with Archive.open(after) as again:
        assert dataset_in(again) == encoded(1)


def test_what_a_correction_replaced_is_written_again(archive: Archive) -> None:
    archive.store(received(1, PatientName="Wrong^Name"))
    with archive.index.engine.connect() as connection:
        found = browse.study_row(connection, "1.2.3")
    assert found is not None
    correction = Correction(archive, "c1", {"PatientName": "Right^Name"}, "NODE")
    correction.begin()
    assert correction.correct(int(found["id"])) == 1
    correction.end()
    after = cut(archive)
    empty(after / PATH)
    with Archive.open(after) as again:
        undo(again, "c1")
        assert dataset_in(again) == encoded(1, PatientName="Wrong^Name")
        assert list(check(again)) == []


def test_a_backup_of_what_is_not_synced_has_its_bytes(archive: Archive, tmp_path: Path) -> None:
    archive.store(received(1))
    backup(archive.data_dir / "index.sqlite", archive.data_dir / "objects", tmp_path / "backup")
    empty(archive.data_dir / PATH)  # and with it the backup's link
    assert (tmp_path / "backup" / PATH).stat().st_size == 0
    after = tmp_path / "restored"
    restore(tmp_path / "backup", after, index=after / "index.sqlite", objects=after / "objects")
    with Archive.open(after) as again:
        assert dataset_in(again) == encoded(1)


def test_a_start_beside_a_command_leaves_its_files_alone(archive: Archive) -> None:
    archive.store(received(1))
    after = cut(archive)
    empty(after / PATH)
    with (after / COMMANDS_FILE).open() as command:
        fcntl.flock(command, fcntl.LOCK_SH)
        with Archive.open(after) as beside:
            assert kept(beside) == [PATH.removeprefix("objects/")]
            assert dataset_in(beside) == b""
    with Archive.open(after) as alone:
        assert dataset_in(alone) == encoded(1)


def test_bytes_stay_if_the_file_system_makes_no_new_file_after_the_sync(
    archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read_only(_: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(ObjectFiles, "require_journal", read_only)
    archive.store(received(1))
    archive._storing._late_sync._sync()
    archive.store(received(2))
    assert [Path(path).stem for path in kept(archive)] == [UID]


@pytest.mark.parametrize(
    ("release", "is_kept"),
    [("4.18.0-553.el8", False), ("5.7.19", False), ("5.8.0", True), ("6.1.0-18-amd64", True)],
)
def test_nothing_is_kept_on_a_linux_whose_syncfs_tells_of_no_losses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, release: str, is_kept: bool
) -> None:
    monkeypatch.setattr(os, "uname", lambda: SimpleNamespace(release=release))
    with Archive.open(tmp_path / "data") as archive:
        archive.store(received(1))
        assert bool(kept(archive)) is is_kept


def test_a_node_starts_on_a_full_disk_that_has_its_files(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", "1m") as disk:
        options = {"objects_root": disk / "objects", "reserve_mb": 0}
        with Archive.open(tmp_path / "data", **options) as archive:
            archive.store(received(1, pixels=bytes(20_000)))
            after = cut(archive)
            fill(disk / "full")
            with Archive.open(after, **options) as again:
                assert kept(again) == []
                assert dataset_in(again) == encoded(1, pixels=bytes(20_000))


def test_stores_that_fail_do_not_end_the_keeping(
    archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OutOfResourcesError("index the instance", "database or disk is full")

    monkeypatch.setattr(late_sync, "_MAX_KEPT_BYTES", 0)
    with monkeypatch.context() as patched:
        patched.setattr(archive.index, "add", full)
        with pytest.raises(OutOfResourcesError):
            archive.store(received(1))
    archive._storing._late_sync._sync()
    archive.store(received(2))
    assert len(kept(archive)) == 1


def test_a_forked_process_keeps_under_a_name_of_its_own() -> None:
    ours, (answer, asked) = writer_name(), os.pipe()
    child = os.fork()
    if child == 0:
        os.write(asked, writer_name().encode())
        os._exit(0)
    os.waitpid(child, 0)
    theirs = os.read(answer, 100).decode()
    os.close(answer)
    os.close(asked)
    assert theirs
    assert theirs != ours
    assert writer_name() == ours
