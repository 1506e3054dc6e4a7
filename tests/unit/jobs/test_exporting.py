"""Objects that a job writes into a folder are on disk before they count as written."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from lfscp.archive.store.received_objects import StoredInstance
from lfscp.config import Settings
from lfscp.jobs.tasks.exporting import write_files

STUDY, INSTANCE = "1.2.3", "1.2.3.4"
CONTENT = b"an object"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "root"
    folder.mkdir()
    return folder


@pytest.fixture
def instance(tmp_path: Path) -> StoredInstance:
    path = tmp_path / "object"
    path.write_bytes(CONTENT)
    return StoredInstance("1.2", INSTANCE, "1.2.840.10008.1.2", path, 0, len(CONTENT), STUDY, "")


def settings(root: Path, durability: str = "full") -> Settings:
    return Settings.model_validate({"web": {"roots": [str(root)]}, "durability": durability})


def watch_syncs(
    monkeypatch: pytest.MonkeyPatch, before: Callable[[int], None] = lambda _inode: None
) -> list[int]:
    """The inodes that are synced, in order."""
    synced: list[int] = []
    sync = os.fsync

    def watched(descriptor: int) -> None:
        inode = os.fstat(descriptor).st_ino
        before(inode)
        sync(descriptor)
        synced.append(inode)

    monkeypatch.setattr(os, "fsync", watched)
    return synced


def test_a_file_is_synced_before_it_has_its_name_and_the_folders_at_the_end(
    root: Path, instance: StoredInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = root / STUDY / f"{INSTANCE}.dcm"
    was_there: list[bool] = []
    synced = watch_syncs(monkeypatch, lambda _inode: was_there.append(file.exists()))
    assert list(write_files([instance], str(root), settings(root))) == [(instance, "")]
    assert file.read_bytes() == CONTENT
    assert synced == [file.stat().st_ino, file.parent.stat().st_ino, root.stat().st_ino]
    assert was_there == [False, True, True]


def test_with_durability_os_nothing_waits_for_the_disk(
    root: Path, instance: StoredInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced = watch_syncs(monkeypatch)
    assert list(write_files([instance], str(root), settings(root, "os"))) == [(instance, "")]
    assert (root / STUDY / f"{INSTANCE}.dcm").read_bytes() == CONTENT
    assert synced == []


def test_a_file_that_does_not_reach_the_disk_is_not_written(
    root: Path, instance: StoredInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_inode: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    watch_syncs(monkeypatch, fail)
    written = list(write_files([instance], str(root), settings(root)))
    assert written == [(instance, "not written: No space left on device")]
    assert list((root / STUDY).iterdir()) == []


def test_what_an_interrupted_run_left_is_replaced(root: Path, instance: StoredInstance) -> None:
    (root / STUDY).mkdir()
    elsewhere = root.parent / "elsewhere"
    (root / STUDY / f"{INSTANCE}.dcm.part").symlink_to(elsewhere)
    assert list(write_files([instance], str(root), settings(root))) == [(instance, "")]
    assert [file.name for file in (root / STUDY).iterdir()] == [f"{INSTANCE}.dcm"]
    assert not elsewhere.exists()
