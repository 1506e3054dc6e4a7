"""Holds the memory budget for decoding, which all associations of the process share.

Rules: the budget counts the working set. Memory goes back to the system and not only to the
allocator, which would keep it in an arena for each thread.
"""

from __future__ import annotations

import threading
from typing import Final

from lfscp.archive.store.budget import Budget
from lfscp.observe import metrics
from lfscp.processes.memory import give_back_memory

_SMALL: Final = 4 << 20  # bytes that are soon used again
_TRIM_BYTES: Final = 32 << 20  # given back since the last time
_LAST_TRIM_BYTES: Final = 8 << 20  # the same when nobody else decodes


class _Returns:
    """Has the allocator return free memory now and then; for any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._bytes = 0

    def note(self, size: int) -> None:
        if size < _SMALL:
            return
        with self._lock:
            self._bytes += size
            is_last = MEMORY.in_use <= size
            if self._bytes < (_LAST_TRIM_BYTES if is_last else _TRIM_BYTES):
                return
            self._bytes = 0
        give_back_memory()


_returns: Final = _Returns()
MEMORY: Final = Budget(
    172 << 20,
    "budgets.decoding_mb",
    spent=metrics.DECODING_MEMORY,
    waits=metrics.DECODING_WAITS.of("memory"),
    refusals=metrics.DECODING_REFUSALS.of("memory"),
    before_return=_returns.note,
)
