"""Measures and limits the memory of this process, and gives it back to the system."""

from __future__ import annotations

import ctypes
import os
import resource
from typing import Any, Final

_PAGE_BYTES: Final = os.sysconf("SC_PAGE_SIZE")
_DATA: Final = 5  # place in /proc/self/statm
_C: Final = ctypes.CDLL(None)
_TRIM: Final[Any] = getattr(_C, "malloc_trim", None)  # glibc has it
_SET: Final[Any] = getattr(_C, "mallopt", None)
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # of mallopt
_LARGE: Final = 1 << 20


def give_back_memory() -> None:
    """Return free memory that the allocator would keep; for any thread."""
    if _TRIM is not None:
        _TRIM(0)


def keep_free_memory(size: int) -> None:
    """Let the allocator keep so much free memory: getting a page from the system takes long.

    Args:
        size: bytes; larger blocks than a megabyte are given back at once all the same.
    """
    if _SET is not None:
        _SET(_MMAP_THRESHOLD, _LARGE)
        _SET(_TRIM_THRESHOLD, size)


def limit_data(size: int) -> str:
    """Limit the memory of this process; gives the reason if that fails, else ""."""
    hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
    size = size if hard == resource.RLIM_INFINITY else min(size, hard)
    try:
        resource.setrlimit(resource.RLIMIT_DATA, (size, hard))
    except (OSError, ValueError) as error:
        return str(error)
    return ""


def data_bytes() -> int:
    """The memory that this limit counts: all private memory, also if it is not in use."""
    with open("/proc/self/statm", "rb") as file:
        return int(file.read().split()[_DATA]) * _PAGE_BYTES


def anonymous_bytes() -> int:
    """Memory of this process that is in use and belongs to no file."""
    with open("/proc/self/status", encoding="ascii", errors="replace") as file:
        found = next((line for line in file if line.startswith("RssAnon:")), "RssAnon: 0 kB")
    return int(found.split()[1]) << 10
