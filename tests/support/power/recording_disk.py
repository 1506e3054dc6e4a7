"""A disk of one file, by FUSE, that records what is written to it and when it is told to flush.

    python -m tests.support.power.recording_disk IMAGE RECORD SAID MOUNTPOINT FILE_SYSTEM

A loop device on <MOUNTPOINT>/disk hands writes on as writes, and each flush of the file system
above as an fsync. Each entry of the record says how long the file SAID was when the request came:
what stands in it by then was said before. The program ends, and unmounts FILE_SYSTEM and
MOUNTPOINT, when its standard input is closed, so that a test that dies leaves no mount.
"""

from __future__ import annotations

import errno
import os
import stat
import subprocess
import sys
import threading
from typing import Any

import mfusepy

from tests.support.power.record import DISK, ENTRY, FLUSH, WRITE


class RecordingDisk(mfusepy.Operations):  # type: ignore[misc]
    """One file; requests come one after another."""

    use_ns = True

    def __init__(self, image: str, record: str, said: str) -> None:
        self._image = os.open(image, os.O_RDWR)
        self._said = os.open(said, os.O_RDONLY)
        self._record = open(record, "wb", buffering=1 << 20)  # noqa: SIM115 - as long as it runs
        self._size = os.fstat(self._image).st_size

    def getattr(self, path: str, fh: int | None = None) -> dict[str, int]:
        if path == "/":
            return {"st_mode": stat.S_IFDIR | 0o700, "st_nlink": 2}
        if path == f"/{DISK}":
            return {"st_mode": stat.S_IFREG | 0o600, "st_nlink": 1, "st_size": self._size}
        raise mfusepy.FuseOSError(errno.ENOENT)

    def readdir(self, path: str, fh: int) -> list[str]:
        return [".", "..", DISK]

    def open(self, path: str, flags: int) -> int:
        return 0

    def read(self, path: str, size: int, offset: int, fh: int) -> bytes:
        return os.pread(self._image, size, offset)

    def write(self, path: str, data: bytes, offset: int, fh: int) -> int:
        self._note(WRITE, offset, len(data))
        self._record.write(data)
        return os.pwrite(self._image, data, offset)

    def fsync(self, path: str, datasync: int, fh: int) -> int:
        self._note(FLUSH, 0, 0)
        return 0

    def flush(self, path: str, fh: int) -> int:
        return 0  # of close(), which promises nothing

    def destroy(self, path: str) -> None:
        self._record.close()

    def _note(self, which: int, offset: int, length: int) -> None:
        self._record.write(ENTRY.pack(which, offset, length, os.fstat(self._said).st_size))


def _unmount_at_the_end(*mountpoints: str) -> None:
    sys.stdin.read()
    for mountpoint in mountpoints:
        if os.path.ismount(mountpoint):
            subprocess.run(["umount", "-l", mountpoint], check=False)


def main() -> None:
    """Serve until the disk is unmounted."""
    image, record, said, mountpoint, file_system = sys.argv[1:]
    end = threading.Thread(target=_unmount_at_the_end, args=(file_system, mountpoint), daemon=True)
    end.start()
    disk: Any = RecordingDisk(image, record, said)
    mfusepy.FUSE(disk, mountpoint, foreground=True, nothreads=True)


if __name__ == "__main__":
    main()
