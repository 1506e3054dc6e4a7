"""Tells what making, syncing and writing over a file does, as the kind of file system says.

On ext4 with a journal, xfs and btrfs a file's fsync commits the transaction that made its names.
On ext4 and xfs everything that was done before is then on disk as well, such as the names of the
folders above. Elsewhere, and where it cannot be told, folders must be synced. Power cuts prove it:
tests/contract/test_power_cuts.py and `scripts/soak powercuts`.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Final

_MOUNTS: Final = Path("/proc/self/mountinfo")
_JOURNALS: Final = Path("/proc/fs/jbd2")
_BLOCK_DEVICES: Final = Path("/sys/dev/block")
_SURE: Final = ("xfs", "btrfs")
_ONE_ORDER: Final = ("xfs",)
_OF_SUBVOLUMES: Final = "btrfs"  # whose files say other devices than its mount
_IN_PLACE: Final = ("ext2", "ext3", "ext4", "xfs")
_OF_THIS_MACHINE: Final = (*_IN_PLACE, "btrfs", "tmpfs", "overlay", "zfs", "f2fs", "bcachefs")
_SYNCFS_TELLS: Final = (5, 8)  # the version of Linux


def is_named_by_sync(folder: str) -> bool:
    """Whether a file in this folder has its names on disk once it is synced itself."""
    return _is_of_kind(folder, _SURE)


def keeps_order(folder: str) -> bool:
    """Whether names here get to the disk in the order in which they were made.

    Not on btrfs: its log has the folders above a file only if the file is as new as they are.
    """
    return _is_of_kind(folder, _ONE_ORDER)


def lacks_journal(folder: str) -> bool:
    """Whether this is an ext4 made without a journal.

    Making a file there looks at those that were deleted near it in the last minutes. A power cut
    while a folder grows may take names from it that were synced long before.
    """
    try:
        kind, device = _mount_of(os.path.realpath(folder))
        return kind == "ext4" and not _has_journal(device)
    except (OSError, ValueError):
        return False


def tells_of_losses() -> bool:
    """Whether syncfs tells of bytes that could not be written; an older Linux says nothing."""
    release = re.match(r"(\d+)\.(\d+)", os.uname().release)
    return release is not None and (int(release[1]), int(release[2])) >= _SYNCFS_TELLS


def is_written_in_place(path: str) -> bool:
    """Whether bytes written over others of this file go to the same place on disk.

    Then syncing them changes nothing else of the file system.
    """
    try:
        return _mount_of(os.path.realpath(path))[0] in _IN_PLACE
    except (OSError, ValueError):
        return False


def is_of_this_machine(folder: str | Path) -> bool:
    """Whether no other machine is asked when a file in this folder is opened."""
    try:
        return _mount_of(os.path.realpath(folder))[0] in _OF_THIS_MACHINE
    except (OSError, ValueError):
        return False


def _is_of_kind(folder: str, kinds: tuple[str, ...]) -> bool:
    """Whether it is on one of some file systems, or on an ext4 with a journal."""
    try:
        path = os.path.realpath(folder)
        kind, device = _mount_of(path)
        if kind != _OF_SUBVOLUMES and device != _device_of(path):
            return False  # another one, mounted above, covers it
        return kind in kinds or (kind == "ext4" and _has_journal(device))
    except (OSError, ValueError):
        return False  # then the folder is synced, which is right everywhere


def _mount_of(path: str) -> tuple[str, str]:
    """File system type and device number of what is mounted where a file or folder is."""
    found = ("", "", "")
    for line in _MOUNTS.read_text(encoding="utf-8", errors="surrogateescape").splitlines():
        mount, _, source = line.partition(" - ")
        _, _, device, _, at, *_ = mount.split(" ")
        at = re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8)), at)
        is_above = path == at or path.startswith(at.rstrip("/") + "/")
        if is_above and len(at) >= len(found[0]):  # the last one covers those before it
            found = (at, source.split(" ")[0], device)
    return found[1], found[2]


def _device_of(path: str) -> str:
    """The number of the device that a file or folder is on."""
    device = Path(path).stat().st_dev
    return f"{os.major(device)}:{os.minor(device)}"


def _has_journal(device: str) -> bool:
    """Whether the ext4 on a device keeps one: made without, it only writes what it is told to."""
    name = (_BLOCK_DEVICES / device).resolve(strict=True).name
    return any(each.name.rpartition("-")[0] == name for each in _JOURNALS.iterdir())
