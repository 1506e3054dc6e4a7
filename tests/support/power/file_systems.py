"""Makes and mounts file systems in files. That needs root, loop devices and FUSE."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.support.power.record import DISK

_ROOT: Final = Path(__file__).parents[3]
MEGABYTE: Final = 1 << 20
_MOUNTED_S: Final = 20.0
_CAP_SYS_ADMIN: Final = 1 << 21


class MountError(Exception):
    """A file system cannot be made, mounted or unmounted; the reason."""


@dataclass(frozen=True)
class FileSystem:
    """A kind of file system.

    Args:
        type: as mount takes it.
        make: the command that makes it in a file.
        size_mb: about the smallest that it can be.
        options: with which it is mounted.
        repair: the command that it needs after a power cut, before it is mounted.
    """

    name: str
    type: str
    make: tuple[str, ...]
    size_mb: int
    options: str = "rw"
    repair: tuple[str, ...] = ()


_OPTIONS: Final = "lazy_itable_init=0,lazy_journal_init=0,nodiscard"
_EXT4: Final = ("mkfs.ext4", "-q", "-E", _OPTIONS)
_REPAIR: Final = ("e2fsck", "-f", "-y")
_MAX_REPAIRED: Final = 1  # e2fsck: errors were found, and all of them corrected
FILE_SYSTEMS: Final = {
    each.name: each
    for each in (
        FileSystem("ext4", "ext4", _EXT4, 96),
        FileSystem("xfs", "xfs", ("mkfs.xfs", "-q", "-K"), 300),
        FileSystem("btrfs", "btrfs", ("mkfs.btrfs", "-q", "-K"), 128, "rw,nodiscard"),
    )
}
# Names get to the disk in any order there, and a cut while a folder grows may take old ones: trials
# may find losses, whatever lfscp does.
WITHOUT_JOURNAL: Final = {
    each.name: each
    for each in (
        FileSystem("ext4-nojournal", "ext4", (*_EXT4, "-O", "^has_journal"), 96, repair=_REPAIR),
        FileSystem("ext2", "ext2", ("mkfs.ext2", "-q"), 96, repair=_REPAIR),
    )
}


def make(kind: FileSystem, image: Path) -> None:
    """Make an empty file system in a new file."""
    with image.open("xb") as file:
        file.truncate(kind.size_mb * MEGABYTE)
    _run(*kind.make, str(image))


def repair(kind: FileSystem, image: Path) -> None:
    """Repair a file system in a file, if its kind needs that after a power cut.

    Raises:
        MountError: it cannot be repaired.
    """
    if kind.repair:
        _run(*kind.repair, str(image), max_code=_MAX_REPAIRED)


@contextmanager
def mounted(kind: FileSystem, image: Path, at: Path) -> Iterator[Path]:
    """Mount a file system by a loop device, which goes with it."""
    at.mkdir(exist_ok=True)
    _run("mount", "-t", kind.type, "-o", f"loop,{kind.options}", str(image), str(at))
    try:
        yield at
    finally:
        _run("umount", str(at))


@contextmanager
def recorded(kind: FileSystem, image: Path, folder: Path) -> Iterator[Path]:
    """Mount a file system on a disk that records; yields where.

    Args:
        folder: gets `record`; `said` must be there.
    """
    served, at = folder / "served", folder / "recorded"
    served.mkdir()
    at.mkdir()
    program = [sys.executable, "-m", "tests.support.power.recording_disk"]
    arguments = [image, folder / "record", folder / "said", served, at]
    with subprocess.Popen(
        [*program, *map(str, arguments)],
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(_ROOT)},
    ) as disk:
        try:
            _wait_until_mounted(served, disk)
            with mounted(kind, served / DISK, at):
                yield at
            _run("umount", str(served))
            disk.wait(_MOUNTED_S)
        finally:
            disk.stdin.close()  # type: ignore[union-attr]


def _wait_until_mounted(at: Path, disk: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + _MOUNTED_S
    while not at.is_mount():
        if disk.poll() is not None:
            said = disk.stderr.read().strip()  # type: ignore[union-attr]
            raise MountError(f"FUSE: {said.splitlines()[-1] if said else disk.returncode}")
        if time.monotonic() > deadline:
            raise MountError("FUSE mounts nothing")
        time.sleep(0.01)


def _run(*command: str, max_code: int = 0) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        raise MountError(f"{command[0]} is not installed") from None
    if not 0 <= done.returncode <= max_code:
        raise MountError(f"{command[0]}: {done.stderr.strip() or done.returncode}")


def may_mount() -> bool:
    """Whether this process may mount, and has what is mounted: what then fails is a fault."""
    devices = all(Path(device).exists() for device in ("/dev/fuse", "/dev/loop-control"))
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    (capabilities,) = (line.split()[1] for line in status.splitlines() if "CapEff" in line)
    return devices and bool(int(capabilities, 16) & _CAP_SYS_ADMIN)
