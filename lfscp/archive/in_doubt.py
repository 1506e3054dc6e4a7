"""Keeps the files of stores that may have been committed, until the index tells.

A database that goes away during a commit may have done it. Such a store was not acknowledged, so
its object need not be there. But if its row is there, its file must be too.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from lfscp.archive.errors import ArchiveError

SETTLED_AFTER_S: Final = 60.0  # by then most servers that lost their client have ended its work


class StoresInDoubt:
    """The stores in doubt of this process. Any thread may call any method.

    Args:
        has_row: whether an instance, by its UID, has a file of a path; ArchiveError if that is not
            to be told yet.
        remove: removes a file.
    """

    def __init__(
        self, has_row: Callable[[str, str], bool], remove: Callable[[str], object]
    ) -> None:
        self._has_row = has_row
        self._remove = remove
        self._stores: deque[tuple[str, str, float]] = deque()  # UID, path, since when

    def __bool__(self) -> bool:
        return bool(self._stores)

    def add(self, uid: str, path: str) -> None:
        """Remember a file."""
        self._stores.append((uid, path, time.monotonic()))

    def settle(self) -> None:
        """Remove the files that have no row in the index, once a minute has passed."""
        with suppress(IndexError):  # another thread settles as well
            while time.monotonic() - self._stores[0][2] >= SETTLED_AFTER_S:
                store = self._stores.popleft()
                uid, path, _ = store
                try:
                    is_needed = self._has_row(uid, path)
                except ArchiveError:
                    self._stores.append(store)
                    return
                if not is_needed:
                    self._remove(path)
