"""A file system that dies takes no small object with it whose store was acknowledged."""

from __future__ import annotations

import fcntl
import os
import struct
from contextlib import suppress
from pathlib import Path

import pytest

from lfscp.archive import late_sync
from lfscp.archive.archive import Archive
from lfscp.archive.durability import sync_file_system
from lfscp.archive.upkeep.check import check
from lfscp.dicom.values.attributes import Level
from tests.contract.test_power_cuts import mountable
from tests.support.archive_datasets import encoded, received
from tests.support.power.file_systems import FILE_SYSTEMS, FileSystem, make, mounted

NUMBERS = range(5)
_SHUTDOWN = 0x8004587D  # FS_IOC_SHUTDOWN of Linux, also named XFS_IOC_GOINGDOWN
_WITHOUT_ITS_LOG = 2


def die(at: Path) -> None:
    """Have a file system write nothing any more, as after an error of its disk."""
    descriptor = os.open(at, os.O_RDONLY)
    try:
        fcntl.ioctl(descriptor, _SHUTDOWN, struct.pack("I", _WITHOUT_ITS_LOG))
    finally:
        os.close(descriptor)


def kept(archive: Archive) -> int:
    """How many files' bytes are in the index."""
    with archive.index.reading() as cursor:
        ((count,),) = cursor.execute("SELECT count(*) FROM unsynced_object").fetchall()
    return int(count)


def store_and_let_die(at: Path, data: Path) -> None:
    """Store objects; none of those that count is synced when the file system dies."""
    with Archive.open(data, objects_root=at / "objects") as archive:
        archive.store(received(99, StudyInstanceUID="1.2.9"))
        archive._storing._late_sync._sync()
        assert kept(archive) == 0
        for number in NUMBERS:
            archive.store(received(number))
        die(at)
        archive._storing._late_sync._sync()
        assert kept(archive) == len(NUMBERS)


def sync_and_tell_nothing(descriptor: int) -> None:
    with suppress(OSError):
        sync_file_system(descriptor)


def whole_files(at: Path) -> int:
    """How many of the objects a program finds that reads the folder."""
    return sum(file.stat().st_size > 0 for file in (at / "objects").glob("1.2.3/*/*.dcm"))


def datasets(at: Path, data: Path) -> list[bytes]:
    """What the archive has of the objects."""
    with Archive.open(data, objects_root=at / "objects") as archive:
        assert list(check(archive)) == []
        found = archive.select(Level.STUDY, {Level.STUDY: ["1.2.3"]})
        return [each.path.read_bytes()[each.dataset_offset :] for each in found]


@pytest.mark.parametrize("tells", [True, False], ids=["told", "not told"])
@pytest.mark.parametrize("kind", [FILE_SYSTEMS["ext4"], FILE_SYSTEMS["xfs"]], ids=["ext4", "xfs"])
def test_objects_are_whole_after_their_file_system_died_before_it_was_synced(
    tmp_path: Path, kind: FileSystem, monkeypatch: pytest.MonkeyPatch, tells: bool
) -> None:
    image, at, data = tmp_path / "image", tmp_path / "mounted", tmp_path / "data"
    monkeypatch.setattr(late_sync, "_DELAY_S", 1000.0)
    with mountable(kind):
        make(kind, image)
        with mounted(kind, image, at), monkeypatch.context() as patched:
            if not tells:  # as an old Linux, whose syncfs is silent about it
                patched.setattr(late_sync, "sync_file_system", sync_and_tell_nothing)
            store_and_let_die(at, data)
    with mounted(kind, image, at):
        assert whole_files(at) < len(NUMBERS)
        assert datasets(at, data) == [encoded(number) for number in NUMBERS]
