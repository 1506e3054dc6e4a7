"""Stores of which nobody knows whether they were committed: their files stay until that is known.

A database that goes away while it commits may have done it. Such a store was not acknowledged, so
it need not be there; its file must be, if its row is.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from lfscp.archive.errors import OutOfResourcesError
from lfscp.archive.index.rows import Existing

SETTLED_AFTER_S: Final = 60.0  # a server that lost its client has ended what it did for it


class Undecided:
    """Those of this process. Any thread may call any method.

    Args:
        find: the row of an instance, by its UID.
        remove: removes a file.
    """

    def __init__(
        self, find: Callable[[str], Existing | None], remove: Callable[[str], object]
    ) -> None:
        self._find = find
        self._remove = remove
        self._stores: deque[tuple[str, str, float]] = deque()  # UID, path, since when

    def __bool__(self) -> bool:
        return bool(self._stores)

    def add(self, uid: str, path: str) -> None:
        """Keep a file in mind."""
        self._stores.append((uid, path, time.monotonic()))

    def settle(self) -> None:
        """Remove the files of which the index turned out to know nothing."""
        with suppress(IndexError):  # another thread settles as well
            while time.monotonic() - self._stores[0][2] >= SETTLED_AFTER_S:
                store = self._stores.popleft()
                uid, path, _ = store
                try:
                    row = self._find(uid)
                except OutOfResourcesError:
                    self._stores.append(store)
                    return
                if row is None or row.path != path:
                    self._remove(path)
