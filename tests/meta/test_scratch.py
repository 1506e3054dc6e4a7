"""The tests write to memory where there is room, and leave nothing there."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support import scratch

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux has /dev/shm")


@pytest.fixture
def room(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if the disk and the memory had much of it."""
    usage = shutil._ntuple_diskusage(scratch.ROOM, 0, scratch.ROOM)  # type: ignore[attr-defined]
    monkeypatch.setattr(shutil, "disk_usage", lambda _folder: usage)
    monkeypatch.setattr(scratch, "_available", lambda: scratch.ROOM)


def test_each_run_has_a_folder_of_its_own(room: None, tmp_path: Path) -> None:
    assert scratch.folder_in_memory(tmp_path) == tmp_path / f"lfscp-tests-{os.getpid()}"


def test_folders_of_runs_that_were_killed_are_removed_and_no_others(
    room: None, tmp_path: Path
) -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    left, running = (tmp_path / f"lfscp-tests-{pid}" for pid in (ended.pid, os.getpid()))
    other = tmp_path / "lfscp-power-x"
    for folder in (left, running, other):
        folder.mkdir()
        (folder / "file").touch()
    scratch.folder_in_memory(tmp_path)
    assert not left.exists()
    assert (running / "file").exists()
    assert (other / "file").exists()


@pytest.mark.parametrize("short", ["memory", "folder"])
def test_without_room_the_disk_is_used(
    room: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, short: str
) -> None:
    if short == "memory":
        monkeypatch.setattr(scratch, "_available", lambda: scratch.ROOM - 1)
    else:
        usage: Any = shutil._ntuple_diskusage(1, 0, 1)  # type: ignore[attr-defined]
        monkeypatch.setattr(shutil, "disk_usage", lambda _folder: usage)
    assert scratch.folder_in_memory(tmp_path) is None


def test_where_there_is_no_such_folder_the_disk_is_used(room: None, tmp_path: Path) -> None:
    assert scratch.folder_in_memory(tmp_path / "none") is None
