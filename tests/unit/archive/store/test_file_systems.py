"""What syncing a file, and writing over its bytes, does on which file systems."""

from __future__ import annotations

from pathlib import Path

import pytest

from lfscp.archive.store import file_systems

MOUNTS = """\
22 1 0:21 / /proc rw,relatime - proc proc rw
27 1 254:0 / / rw,relatime - ext4 /dev/vda rw
30 27 0:27 / /srv/memory rw - tmpfs tmpfs rw
31 27 254:16 /deep /srv/with\\040space rw shared:1 master:2 - ext4 /dev/vdb rw
32 27 254:32 / /srv/xfs rw - xfs /dev/vdc rw
33 32 0:40 / /srv/xfs/btrfs rw - btrfs /dev/vdd rw
34 27 0:41 / /srv/layers rw - overlay overlay rw
35 27 254:32 / /srv/twice rw - xfs /dev/vdc rw
36 35 0:42 / /srv/twice rw - nfs4 server:/x rw
37 27 254:48 / /srv/old rw - ext2 /dev/vde rw
38 27 254:32 / /srv/covered/below rw - xfs /dev/vdc rw
39 27 0:43 / /srv/covered rw - nfs4 server:/y rw
"""
DEVICES = {
    "/srv/with space": "254:16",
    "/srv/xfs": "254:32",
    "/srv/xfs/btrfs": "0:60",  # of a subvolume
    "/srv/covered": "0:43",
}


def device_of(path: str) -> str:
    above = [each for each in DEVICES if f"{path}/".startswith(f"{each}/")]
    return DEVICES[max(above, key=len)] if above else "254:0"


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine of such mounts, of whose ext4 the one on vdb has a journal."""
    (tmp_path / "mountinfo").write_text(MOUNTS)
    for number, name in (("254:0", "vda"), ("254:16", "vdb")):
        device = tmp_path / "devices" / name
        device.mkdir(parents=True)
        (tmp_path / number).symlink_to(device)
    (tmp_path / "journals/vdb-8").mkdir(parents=True)
    monkeypatch.setattr(file_systems, "_device_of", device_of)
    monkeypatch.setattr(file_systems, "_MOUNTS", tmp_path / "mountinfo")
    monkeypatch.setattr(file_systems, "_BLOCK_DEVICES", tmp_path)
    monkeypatch.setattr(file_systems, "_JOURNALS", tmp_path / "journals")
    return tmp_path


@pytest.mark.parametrize(
    ("folder", "expected"),
    [
        ("/data", False),  # ext4 without a journal
        ("/srv/memory/data", False),
        ("/srv/with space/data", True),
        ("/srv/with space", True),
        ("/srv/xfs/data", True),
        ("/srv/xfsdata", False),  # beside it
        ("/srv/xfs/btrfs/data", True),
        ("/srv/layers/data", False),
        ("/srv/twice/data", False),  # one mount above another
        ("/srv/old/data", False),
        ("/srv/covered/below/data", False),  # mounted before what is above it
    ],
)
def test_file_systems_with_a_journal_name_a_synced_file(
    machine: Path, folder: str, expected: bool
) -> None:
    assert file_systems.is_named_by_sync(folder) is expected


@pytest.mark.parametrize(
    ("folder", "expected"),
    [
        ("/data", False),  # ext4 without a journal
        ("/srv/with space/data", True),
        ("/srv/xfs/data", True),
        ("/srv/xfs/btrfs/data", False),  # whose log may lack a folder that is newer than its file
        ("/srv/twice/data", False),
    ],
)
def test_file_systems_with_one_journal_keep_the_order_of_names(
    machine: Path, folder: str, expected: bool
) -> None:
    assert file_systems.keeps_order(folder) is expected


@pytest.mark.parametrize("missing", ["mountinfo", "journals/vdb-8", "journals", "254:16"])
def test_what_cannot_be_told_is_not_assumed(machine: Path, missing: str) -> None:
    (machine / missing).rename(machine / "away")
    assert not file_systems.is_named_by_sync("/srv/with space/data")
    assert not file_systems.keeps_order("/srv/with space/data")


@pytest.mark.parametrize(
    ("file", "expected"),
    [
        ("/data/index", True),
        ("/srv/memory/index", False),
        ("/srv/xfs/index", True),
        ("/srv/xfs/btrfs/index", False),
        ("/srv/twice/index", False),
        ("/srv/old/index", True),
    ],
)
def test_a_file_that_is_written_over_stays_where_it_is_on_these(
    machine: Path, file: str, expected: bool
) -> None:
    assert machine
    assert file_systems.is_written_in_place(file) is expected


@pytest.mark.parametrize(
    ("folder", "expected"),
    [
        ("/data", True),  # ext4 without a journal
        ("/srv/with space/data", False),
        ("/srv/memory/data", False),
        ("/srv/xfs/data", False),
        ("/srv/old/data", False),
    ],
)
def test_ext4_without_a_journal_is_told(machine: Path, folder: str, expected: bool) -> None:
    assert machine
    assert file_systems.lacks_journal(folder) is expected
