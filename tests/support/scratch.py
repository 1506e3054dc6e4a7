"""Where tests write: in memory if there is room, since nobody waits for its syncs; else on disk."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

MEMORY = Path("/dev/shm")  # noqa: S108 - the folder of this run has a name and a mode of its own
ROOM = 6 << 30  # several times what all tests together were seen to take at once
_PREFIX = "lfscp-tests-"


def folder_in_memory(memory: Path = MEMORY) -> Path | None:
    """A folder for this run's files, not made yet; None where memory has no room for them.

    Removes those of runs that were killed.
    """
    if not (memory.is_dir() and os.access(memory, os.W_OK)):
        return None
    for left in memory.glob(f"{_PREFIX}*"):
        if _is_left(left):
            shutil.rmtree(left, ignore_errors=True)
    if min(shutil.disk_usage(memory).free, _available()) < ROOM:
        return None
    return memory / f"{_PREFIX}{os.getpid()}"


def _is_left(folder: Path) -> bool:
    """Whether it is ours and the process that made it has ended."""
    pid = folder.name.removeprefix(_PREFIX)
    ours = folder.stat().st_uid == os.getuid()
    return ours and pid.isdecimal() and not Path(f"/proc/{pid}").exists()


def _available() -> int:
    """How many bytes of memory programs can still take."""
    lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    found = dict(line.split(":", 1) for line in lines)
    return int(found["MemAvailable"].split()[0]) << 10
