"""Shares a budget of bytes among the threads of a process; a thread waits until enough is free.

Rules: threads get their bytes in the order in which they asked, large or small, so that none is
passed over; in a budget whose bytes may be held for long, any request that fits may go first. A
request for more than the whole budget is refused at once. A thread must not ask while it holds
some, or it could wait for itself. A waiting thread calls `look` several times a second, outside the
lock, and may give up. The budget does not know what its bytes are for.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Self

from lfscp.observe.counters import Count, Gauge

LOOK_AGAIN_S = 0.25  # a C-CANCEL or the end of the node is noticed this soon


class BudgetExceededError(Exception):
    """More is needed than there is, or than there came to be in time; the text says both."""


class Budget:
    """Any thread may call any method.

    Args:
        limit_bytes: all that may be spent at once.
        setting: which states it in megabytes, for the text of a refusal.
        spent, waits, refusals: where it counts.
        in_order: whether threads get their bytes in the order in which they asked.
        before_return: called with the bytes before others may have them.
    """

    def __init__(
        self,
        limit_bytes: int,
        setting: str,
        *,
        spent: Gauge | None = None,
        waits: Count | None = None,
        refusals: Count | None = None,
        in_order: bool = True,
        before_return: Callable[[int], None] = lambda _: None,
    ) -> None:
        self.limit_bytes = limit_bytes
        self.in_use = 0
        self._setting = setting
        self._spent = spent
        self._waits = waits
        self._refusals = refusals
        self._in_order = in_order
        self._before_return = before_return
        self._changed = threading.Condition()
        self._waiting: deque[object] = deque()

    def reserve(
        self, size: int, look: Callable[[], None], patience_s: float = float("inf")
    ) -> Reservation:
        """Spend so many bytes for a while.

        Args:
            look: called several times a second during a wait; what it raises ends the wait.
            patience_s: the longest wait.
        Raises:
            BudgetExceededError: it is more than the budget, or the wait was too long.
        """
        return Reservation(self, size, look, patience_s)

    def take(self, size: int, look: Callable[[], None], patience_s: float) -> None:
        """Take the bytes, in turn; see `reserve`."""
        if size > self.limit_bytes:
            self._refuse(f"it needs {_megabytes(size)} MB")
        me = object()
        with self._changed:
            self._waiting.append(me)
            if self._take(me, size):
                return
        if self._waits is not None:
            self._waits.add()
        deadline = time.monotonic() + patience_s
        try:
            while True:
                look()
                with self._changed:
                    if self._take(me, size):
                        return
                    self._changed.wait(LOOK_AGAIN_S)
                if time.monotonic() > deadline:
                    self._refuse(f"{_megabytes(size)} MB were not free within {patience_s:g} s")
        finally:
            with self._changed:
                if me in self._waiting:
                    self._waiting.remove(me)
                self._changed.notify_all()

    def take_if_free(self, size: int) -> bool:
        """Take the bytes only if they are free now and nobody waits; a thread may hold some."""
        with self._changed:
            if self._waiting or self.in_use + size > self.limit_bytes:
                return False
            self.in_use += size
            self._count()
            return True

    def give_back(self, size: int) -> None:
        """Give the bytes back."""
        self._before_return(size)
        with self._changed:
            self.in_use -= size
            self._count()
            self._changed.notify_all()

    @property
    def waiting(self) -> int:
        """How many wait."""
        return len(self._waiting)

    def _take(self, me: object, size: int) -> bool:
        """Take the bytes if it is this one's turn and they are there; lock held."""
        is_next = not self._in_order or self._waiting[0] is me
        if not is_next or self.in_use + size > self.limit_bytes:
            return False
        self._waiting.remove(me)
        self.in_use += size
        self._count()
        return True

    def _count(self) -> None:
        if self._spent is not None:
            self._spent.set(self.in_use)

    def _refuse(self, why: str) -> None:
        if self._refusals is not None:
            self._refusals.add()
        limit = _megabytes(self.limit_bytes)
        raise BudgetExceededError(f"{why}, {self._setting} is {limit}")


class Reservation:
    """Bytes that one thread spends within a `with` block."""

    def __init__(
        self, budget: Budget, size: int, look: Callable[[], None], patience_s: float
    ) -> None:
        self._budget = budget
        self._size = size
        self._look = look
        self._patience_s = patience_s
        self._is_on = False

    def __enter__(self) -> Self:
        self.take()
        return self

    def __exit__(self, *_: object) -> None:
        self.give_back()

    def take(self) -> None:
        """Wait for the bytes and take them."""
        self._budget.take(self._size, self._look, self._patience_s)
        self._is_on = True

    def give_back(self) -> None:
        """Give them back."""
        if self._is_on:
            self._is_on = False
            self._budget.give_back(self._size)

    def give_way(self) -> None:
        """Let waiting threads go first, between two steps that need the same bytes."""
        if self._budget.waiting:
            self.give_back()
            self.take()


def _megabytes(size: int) -> int:
    return -(-size >> 20)
