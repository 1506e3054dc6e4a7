"""The memory of this process: what it takes, a limit to it, and giving it back to the system."""

from __future__ import annotations

import ctypes
import os
import resource
from typing import Any, Final

_PAGE_BYTES: Final = os.sysconf("SC_PAGE_SIZE")
_DATA: Final = 5  # place in /proc/self/statm
_TRIM: Final[Any] = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc has it


def give_back_memory() -> None:
    """Return what is free, which the allocator would keep; any thread may call it."""
    if _TRIM is not None:
        _TRIM(0)


def limit_data(size: int) -> str:
    """Limit this process's memory; why that cannot be done, or nothing."""
    hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
    size = size if hard == resource.RLIM_INFINITY else min(size, hard)
    try:
        resource.setrlimit(resource.RLIMIT_DATA, (size, hard))
    except (OSError, ValueError) as error:
        return str(error)
    return ""


def data_bytes() -> int:
    """What that limit counts: private memory, whether it is in use or not."""
    with open("/proc/self/statm", "rb") as file:
        return int(file.read().split()[_DATA]) * _PAGE_BYTES


def anonymous_bytes() -> int:
    """Memory of this process that is in use and in no file."""
    with open("/proc/self/status", encoding="ascii", errors="replace") as file:
        found = next((line for line in file if line.startswith("RssAnon:")), "RssAnon: 0 kB")
    return int(found.split()[1]) << 10
