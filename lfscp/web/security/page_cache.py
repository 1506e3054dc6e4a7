"""Tells whether bytes of a file are in the kernel's memory, and has it read those that are not.

Rules: the answer may be out of date at once, and is no promise. Where the kernel does not tell, the
bytes are read if that waits for nothing, and where it does not do so either, the answer is no.

Source: `cachestat` (Linux 6.5), and `RWF_NOWAIT` in man 2 preadv2.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import struct
import sys
import threading
from collections.abc import Iterator
from typing import Final

_CACHESTAT: Final = 451  # the number of the system call
_RANGE: Final = struct.Struct("=QQ")  # offset, length
_FOUND: Final = struct.Struct("=QQQQQ")  # pages in memory, then those of other states
_PAGE: Final = mmap.PAGESIZE
# Python's lock is kept: the call is shorter than it takes to get it again.
_LIBC: Final = ctypes.PyDLL(None, use_errno=True) if sys.platform == "linux" else None
_NO_WAIT: Final[int | None] = getattr(os, "RWF_NOWAIT", None)
_SCRATCH: Final = 1 << 16  # bytes, which stay in the processor's cache
_BUFFERS: Final = 16
_local: Final = threading.local()


def is_in_memory(descriptor: int, offset: int, size: int) -> bool:
    """Whether reading these bytes waits for no disk now."""
    said = _said(descriptor, offset, size)
    return _can_read_at_once(descriptor, offset, size) if said is None else said


def _said(descriptor: int, offset: int, size: int) -> bool | None:
    """The kernel's answer; None if it does not tell."""
    if size <= 0:
        return True
    found = ctypes.create_string_buffer(_FOUND.size)
    asked = _RANGE.pack(offset, size)
    if _LIBC is None or _LIBC.syscall(_CACHESTAT, descriptor, asked, found, 0):
        return None
    pages = (offset + size - 1) // _PAGE - offset // _PAGE + 1
    return int(_FOUND.unpack(found.raw)[0]) >= pages


def _can_read_at_once(descriptor: int, offset: int, size: int) -> bool:
    if _NO_WAIT is None:
        return False
    try:
        return all(_reads(descriptor, offset, size, _NO_WAIT))
    except OSError:  # it would wait, or the file system does not tell
        return False


def fetch(descriptor: int, offset: int, size: int) -> None:
    """Have the kernel read bytes from disk, if it does not hold them; for a thread.

    Raises:
        OSError: they cannot be read, or there are fewer.
    """
    is_long_enough = os.fstat(descriptor).st_size >= offset + size
    if is_long_enough and _said(descriptor, offset, size):
        return
    left = size
    for count in _reads(descriptor, offset, size, 0):
        if not count:
            raise OSError(f"the file is {left} bytes shorter than expected")
        left -= count


def _reads(descriptor: int, offset: int, size: int, flags: int) -> Iterator[int]:
    """Read bytes that are not looked at; gives how many came each time, 0 at the file's end."""
    buffers, at, end = _buffers(), offset, offset + size
    while at < end:
        left = end - at
        if left < _SCRATCH:
            buffers = [buffers[0][:left]]
        elif left < _SCRATCH * len(buffers):
            buffers = buffers[: left // _SCRATCH]
        count = os.preadv(descriptor, buffers, at, flags)
        yield count
        if not count:
            return
        at += count


def _buffers() -> list[memoryview]:
    """The same memory many times."""
    found: list[memoryview] | None = getattr(_local, "buffers", None)
    if found is None:
        found = _local.buffers = [memoryview(bytearray(_SCRATCH))] * _BUFFERS
    return found
