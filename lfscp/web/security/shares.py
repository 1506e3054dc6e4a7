"""Limits how much of something all visitors together, and each of them, may have at once."""

from __future__ import annotations

import threading
from typing import Final, Literal

Shortage = Literal["", "each", "all"]
ENOUGH: Final = ""


class Share:
    """So much for all, so much for each; who asks for more gets nothing. Any thread may ask.

    Args:
        of_all: the most that all together may have.
        of_each: the most that one may have.
    """

    def __init__(self, of_all: int, of_each: int) -> None:
        self.of_all = of_all
        self.of_each = of_each
        self._lock = threading.Lock()
        self._taken = 0
        self._by_visitor: dict[str, int] = {}

    @property
    def taken(self) -> int:
        """How much all have now."""
        return self._taken

    def take(self, visitor: str, amount: int = 1) -> Shortage:
        """Take some of it; what it says is missing was not taken.

        Returns:
            ENOUGH; "each": this visitor has too much; "all": all have.
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
        """Give back what was taken."""
        with self._lock:
            self._taken -= amount
            left = self._by_visitor[visitor] - amount
            if left:
                self._by_visitor[visitor] = left
            else:
                del self._by_visitor[visitor]
