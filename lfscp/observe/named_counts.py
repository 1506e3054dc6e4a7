"""Counts for names that are known only at run time, such as those of plug-ins.

Each process has places of its own on the board, and takes one for each name when it first counts
it. A place says by a checksum whose it is, so that processes need not agree on their order.
"""

from __future__ import annotations

import threading
import zlib
from collections.abc import Sequence
from typing import Final

from lfscp.observe.counters import Board

MOST_NAMES: Final = 32  # further ones are not counted


class NamedCounts:
    """Several counts for each of some names. Any thread may count, any process may read.

    Args:
        board: where they stand.
        kinds: what is counted of each name.
    """

    def __init__(self, board: Board, kinds: Sequence[str]) -> None:
        self._board = board
        self._kinds = tuple(kinds)
        self._width = 1 + len(self._kinds)
        self._start = board.reserve(None, MOST_NAMES * self._width)
        self._taking = threading.Lock()

    def add(self, name: str, kind: str, amount: float = 1.0) -> None:
        """Count."""
        at = self._place(name)
        if at is not None:
            values = self._board.values
            at += 1 + self._kinds.index(kind)
            values[at] += amount

    def set(self, name: str, kind: str, value: float) -> None:
        """Set this process's number, of what rises and falls."""
        at = self._place(name)
        if at is not None:
            self._board.values[at + 1 + self._kinds.index(kind)] = value

    def of(self, name: str) -> dict[str, int]:
        """The counts of a name, summed over all processes, by kind."""
        key = _key(name)
        found = dict.fromkeys(self._kinds, 0)
        for line in self._board.lines():
            for at in self._places():
                if line[at] == key:
                    for number, kind in enumerate(self._kinds, at + 1):
                        found[kind] += int(line[number])
        return found

    def _places(self) -> range:
        return range(self._start, self._start + MOST_NAMES * self._width, self._width)

    def _place(self, name: str) -> int | None:
        """Where this process counts a name; None if it has no place left."""
        key, values = _key(name), self._board.values
        for at in self._places():
            if not values[at]:
                with self._taking:
                    if not values[at]:
                        values[at] = key
            if values[at] == key:
                return at
        return None


def _key(name: str) -> float:
    return float(zlib.crc32(name.encode()) + 1)  # never that of a free place
