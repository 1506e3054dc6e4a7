"""Returns free memory to the system; the allocator would keep it for each thread."""

from __future__ import annotations

import ctypes
from typing import Any


def _trimmer() -> Any:
    """glibc's malloc_trim; None elsewhere."""
    return getattr(ctypes.CDLL(None), "malloc_trim", None)


_TRIM = _trimmer()


def give_back_memory() -> None:
    """Return what is free; any thread may call it."""
    if _TRIM is not None:
        _TRIM(0)
