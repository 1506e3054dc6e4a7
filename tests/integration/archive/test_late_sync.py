"""A small object whose file a power cut kept from the disk is whole after the next start."""

from __future__ import annotations

import errno
import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from lfscp.archive import late_sync
from lfscp.archive.archive import Archive, StoreOutcome
from lfscp.archive.index.database.database import sqlite_url
from lfscp.archive.store import files as object_files
from lfscp.archive.upkeep.check import check
from lfscp.archive.upkeep.rebuild import rebuild
from lfscp.dicom.values.attributes import Level
from tests.support.archive_datasets import encoded, received

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
