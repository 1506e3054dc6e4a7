"""Limits how much of something each visitor, and all together, may have at once."""

from __future__ import annotations

import threading
from typing import Final, Literal

Shortage = Literal["", "each", "all"]
ENOUGH: Final = ""


class Share:
    """A limit for all visitors and one for each. Any thread may ask.

    Args:
        of_all: the maximum for all together.
        of_each: the maximum for one.
    """

    def __init__(self, of_all: int, of_each: int) -> None:
        self.of_all = of_all
        self.of_each = of_each
        self._lock = threading.Lock()
        self._taken = 0
        self._by_visitor: dict[str, int] = {}

    @property
    def taken(self) -> int:
        """How much is taken now."""
        return self._taken

    def take(self, visitor: str, amount: int = 1) -> Shortage:
        """Take an amount, or nothing if a limit would be exceeded.

        Returns:
            ENOUGH, or the limit that would be exceeded: "each" or "all".
        """
        with self._lock:
            own = self._by_visitor.get(visitor, 0) + amount
            if own > self.of_each:
                return "each"
            if self._taken + amount > self.of_all:
                return "all"
            self._by_visitor[visitor] = own
            self._taken += amount
            return ENOUGH

    def give(self, visitor: str, amount: int = 1) -> None:
        """Give an amount back."""
        with self._lock:
            self._taken -= amount
            left = self._by_visitor[visitor] - amount
            if left:
                self._by_visitor[visitor] = left
            else:
                del self._by_visitor[visitor]
