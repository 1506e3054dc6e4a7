"""Reads from /proc (proc(5)) what a process uses of the machine, and when that was started."""

from __future__ import annotations

import os
import resource
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_TICKS_PER_S: Final = os.sysconf("SC_CLK_TCK")
_PAGE_BYTES: Final = os.sysconf("SC_PAGE_SIZE")
# Places behind the process's name, which may hold anything.
_USER_TIME, _SYSTEM_TIME, _THREADS, _RESIDENT = 11, 12, 17, 21
_BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")


@dataclass(frozen=True, slots=True)
class ProcessUsage:
    """What one process uses.

    Args:
        cpu_s: user and system time since it started.
        max_open_files: its soft limit, taken to be that of the calling process.
    """

    cpu_s: float
    resident_bytes: int
    open_files: int
    max_open_files: int
    threads: int


def usage(pid: int) -> ProcessUsage | None:
    """What a process of ours uses now; None when there is none (any more)."""
    folder = Path(f"/proc/{pid}")
    try:
        fields = (folder / "stat").read_text().rpartition(")")[2].split()
        open_files = sum(1 for _ in os.scandir(folder / "fd"))
    except (OSError, UnicodeDecodeError):
        return None
    return ProcessUsage(
        cpu_s=(int(fields[_USER_TIME]) + int(fields[_SYSTEM_TIME])) / _TICKS_PER_S,
        resident_bytes=int(fields[_RESIDENT]) * _PAGE_BYTES,
        open_files=open_files,
        max_open_files=resource.getrlimit(resource.RLIMIT_NOFILE)[0],
        threads=int(fields[_THREADS]),
    )


def boot_id_of_machine() -> str:
    """What names this start of the machine; empty when the system does not tell."""
    with suppress(OSError):
        return _BOOT_ID.read_text("ascii").strip()
    return ""
