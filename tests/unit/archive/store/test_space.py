"""The reserve of free disk: when a store is refused, and that asking for it costs nothing."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import pytest

from lfscp.archive.archive import Archive, StoreOutcome
from lfscp.archive.errors import OutOfResourcesError
from lfscp.archive.store.space import Space
from tests.support.archive_datasets import received


class Disk:
    """A file system of which the test says how large and how full it is."""

    def __init__(self, size_mb: int, free_mb: int) -> None:
        self.size_mb, self.free_mb = size_mb, free_mb
        self.asked = 0

    def statvfs(self, _folder: str) -> Any:
        self.asked += 1
        values = (1_000_000, 1_000_000, self.size_mb, self.free_mb, self.free_mb, 1, 1, 1, 0, 255)
        return os.statvfs_result(values)


@pytest.mark.parametrize(
    ("size_mb", "free_mb", "reserve_mb", "is_short"),
    [
        (1_000_000, 513, -1, False),
        (1_000_000, 511, -1, True),
        (1_000, 11, -1, False),  # a hundredth of a small disk
        (1_000, 9, -1, True),
        (1_000, 99, 100, True),
        (1_000, 100, 100, False),
        (1_000_000, 0, 0, False),  # none is wanted
    ],
)
def test_the_reserve(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    size_mb: int,
    free_mb: int,
    reserve_mb: int,
    is_short: bool,
) -> None:
    monkeypatch.setattr(os, "statvfs", Disk(size_mb, free_mb).statvfs)
    assert bool(Space([tmp_path], reserve_mb).shortage) is is_short


def test_the_file_system_is_asked_once_a_second(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = Disk(1000, 500)
    now = 100.0
    monkeypatch.setattr(os, "statvfs", disk.statvfs)
    monkeypatch.setattr(time, "monotonic", lambda: now)
    space = Space([tmp_path, tmp_path], 100)
    for _ in range(50):
        space.require()
    assert disk.asked == 1
    disk.free_mb = 50
    now += 1.5
    for _ in range(2):  # who is refused asks each time, so that the first one who can stores
        with pytest.raises(
            OutOfResourcesError, match="50 MB are free, below the reserve of 100 MB"
        ):
            space.require()
    assert disk.asked == 3
    disk.free_mb = 500
    space.require()
    space.require()
    assert disk.asked == 4


def test_what_is_refused_has_written_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Archive.open(tmp_path, reserve_mb=1) as archive:
        with monkeypatch.context() as patched:
            patched.setattr(os, "statvfs", Disk(1000, 0).statvfs)
            patched.setattr(archive.files, "write_piece", lambda *_: pytest.fail("it was written"))
            with pytest.raises(OutOfResourcesError):
                archive.store(received(1))
        assert archive.store(received(1)).outcome is StoreOutcome.STORED


def test_a_file_system_that_does_not_answer_is_short(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    space = Space([folder], 1)
    folder.rmdir()
    assert "No such file" in space.shortage
