"""Keeps converted datasets on disk, not in memory, until their receivers have taken them.

Rules: files without a name, so that nothing is left of them however the process ends; in the data
folder once the node has said where that is, since a system's folder for temporary files may be in
memory or small; together at most the budget, and never what the reserve of free disk keeps back.
Small ones are in memory, which takes a fourth of the time, as long as there are few of them.
"""

from __future__ import annotations

import mmap
import os
import tempfile
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import IO, Final

from lfscp.archive.store.budget import Budget, BudgetExceededError
from lfscp.archive.store.space import AUTOMATIC, Space
from lfscp.observe import metrics

PATIENCE_S: Final = 60.0  # for receivers that have not taken their objects yet
SPACE: Final = Budget(
    8192 << 20,
    "budgets.spool_mb",
    spent=metrics.SPOOLED,
    waits=metrics.DECODING_WAITS.of("disk"),
    refusals=metrics.DECODING_REFUSALS.of("disk"),
    in_order=False,  # a receiver may take its time with what is there
)
SMALL: Final = 2 << 20  # bytes of a file that may be in memory
_MAX_IN_MEMORY: Final = 16 << 20
_places: list[tuple[Path, Space]] = []


def use(folder: Path, limit_bytes: int, reserve_mb: int = AUTOMATIC) -> None:
    """Say where the files are, and how much they may take; once, before any is made.

    Args:
        reserve_mb: as `Space` takes it.
    """
    _places[:] = [(folder, Space([folder], reserve_mb))]
    SPACE.limit_bytes = limit_bytes


@contextmanager
def spooled(size: int, look: Callable[[], None]) -> Iterator[IO[bytes]]:
    """A file without a name for at most so many bytes, for as long as it is needed; or a BytesIO.

    Args:
        look: called several times a second during a wait for bytes; what it raises ends the wait.
    Raises:
        BudgetExceededError: it is more than the budget, or was not free within a minute.
        OutOfResourcesError: the disk is full.
        OSError: there can be none.
    """
    if size <= SMALL and IN_MEMORY.take(size):
        with _given_back(size) as file:
            yield file
    else:
        with SPACE.reserve(size, look, PATIENCE_S), _unnamed(size) as file:
            yield file


@contextmanager
def held(size: int) -> Iterator[IO[bytes]]:
    """Memory for at most so many bytes.

    Raises:
        BudgetExceededError: it is not small, or there is none left.
    """
    if size > SMALL or not IN_MEMORY.take(size):
        raise BudgetExceededError(f"{size} bytes are not kept in memory")
    with _given_back(size) as file:
        yield file


@contextmanager
def _given_back(size: int) -> Iterator[BytesIO]:
    try:
        yield BytesIO()
    finally:
        IN_MEMORY.give_back(size)


class _InMemory:
    """Counts the memory that small files take; a file that does not fit goes to the disk."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._size = 0

    def take(self, size: int) -> bool:
        """Take so many bytes, if there are as many."""
        with self._lock:
            if self._size + size > _MAX_IN_MEMORY:
                return False
            self._size += size
            return True

    def give_back(self, size: int) -> None:
        """Give them back."""
        with self._lock:
            self._size -= size


IN_MEMORY: Final = _InMemory()


def _unnamed(size: int) -> IO[bytes]:
    if not _places:
        return tempfile.TemporaryFile(buffering=0)
    folder, space = _places[0]
    space.require_for(size)
    return tempfile.TemporaryFile(dir=folder, prefix=".spool-", buffering=0)


def mapped(size: int, pieces: Iterable[bytes]) -> mmap.mmap:
    """So many bytes on disk, to be read where they are, until the last view of them is gone.

    Raises:
        BudgetExceededError, OutOfResourcesError, OSError: as `spooled`; it does not wait.
    """
    SPACE.take(size, lambda: None, 0.0)
    try:
        with _unnamed(size) as file:
            for piece in pieces:
                write_all(file, piece)
            content = mmap.mmap(file.fileno(), size, access=mmap.ACCESS_READ)
    except BaseException:
        SPACE.give_back(size)
        raise
    weakref.finalize(content, SPACE.give_back, size)
    return content


def write_all(file: IO[bytes], content: bytes | memoryview) -> None:
    """Write all of it: a raw file may take less at once."""
    if isinstance(file, BytesIO):
        file.write(content)
        return
    view = memoryview(content)
    while view:
        view = view[os.write(file.fileno(), view) :]
