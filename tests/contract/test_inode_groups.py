"""Objects are made quickly though others were deleted beside them: see store/inode_groups.py."""

from __future__ import annotations

import os
from pathlib import Path

from lfscp.archive.archive import Archive
from lfscp.archive.store.inode_groups import make_apart
from tests.contract.test_power_cuts import mountable
from tests.support.archive_datasets import received
from tests.support.power.file_systems import FileSystem, make, mounted

OPTIONS = ("-O", "^has_journal,^flex_bg", "-N", "2400")
NO_JOURNAL = FileSystem("ext4 without a journal", "ext4", ("mkfs.ext4", "-q", *OPTIONS), 96)
GROUPS = 12  # of 8 MB


def test_pieces_are_in_another_group_of_inodes_than_the_folders_beside_them(
    tmp_path: Path,
) -> None:
    image, at = tmp_path / "image", tmp_path / "mounted"
    with mountable(NO_JOURNAL):
        make(NO_JOURNAL, image)
        with mounted(NO_JOURNAL, image, at):
            data = at / "below" / "data"
            with Archive.open(data) as archive:
                archive.store(received(1))
                pieces = group_of(archive.incoming_dir, at)
                assert pieces != group_of(data, at)
            with Archive.open(data) as again:
                assert group_of(again.incoming_dir, at) == pieces
                assert list(again.files.walk()) == ["1.2.3/1.2.3.1/1.2.3.1.1.dcm"]


def group_of(path: Path, at: Path) -> int:
    """The group of an inode: each has as many."""
    return (path.stat().st_ino - 1) // (os.statvfs(at).f_files // GROUPS)


def test_the_folder_of_another_process_stays_with_what_is_in_it(tmp_path: Path) -> None:
    folder = tmp_path / "pieces"
    make_apart(folder)
    make_apart(folder)
    (folder / "piece").write_bytes(b"")
    make_apart(folder)
    assert [path.name for path in tmp_path.iterdir()] == ["pieces"]
    assert [path.name for path in folder.iterdir()] == ["piece"]
