"""An event and a queue for threads that seldom wait: no lock is made until one does.

pynetdicom has a dozen queues and events for each association. With those of `threading` and `queue`
they are some forty locks and conditions, and the largest part of what it costs to accept an
association. Yet nearly all associations live in one thread, which never waits at any of them.

Relied on: the interpreter's lock, as everywhere in a node (`lfscp.python_build.require_gil`). No
other thread comes between what a list or a deque does in one call.
"""

from __future__ import annotations

import queue
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Generic, TypeVar

T = TypeVar("T")


class _Awaited:
    """Something that threads wait for. Whoever wakes one wakes all, and each looks for itself."""

    __slots__ = ("_gates",)

    def __init__(self) -> None:
        self._gates: list[threading.Lock] = []  # each has a thread that sleeps on it

    def _wake(self) -> None:
        while self._gates:
            with suppress(IndexError):  # another thread has woken the last one
                self._gates.pop().release()

    def _sleep(self, timeout_s: float | None, is_due: Callable[[], object]) -> bool:
        """Sleep until woken, unless that is due already; False when the time is over."""
        gate = threading.Lock()
        gate.acquire()
        self._gates.append(gate)
        seconds = -1 if timeout_s is None else min(max(0.0, timeout_s), threading.TIMEOUT_MAX)
        # Whether it is due is asked once this thread can be woken: no wake-up comes in between.
        is_woken = bool(is_due()) or gate.acquire(timeout=seconds)
        with suppress(ValueError):  # woken, so it is not there any more
            self._gates.remove(gate)
        return is_woken


class LazyEvent(_Awaited):
    """As `threading.Event`."""

    __slots__ = ("_is_set",)

    def __init__(self) -> None:
        self._gates = []  # as the base does, without a call: there are a dozen for an association
        self._is_set = False

    def is_set(self) -> bool:
        """Whether it is set."""
        return self._is_set

    def set(self) -> None:
        """Set it, and wake all that wait for it."""
        self._is_set = True
        if self._gates:
            self._wake()

    def clear(self) -> None:
        """Have those that come wait."""
        self._is_set = False

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until it is set.

        Args:
            timeout: seconds; None for no limit.
        Returns:
            Whether it was set in time.
        """
        return self._is_set or self._sleep(timeout, self.is_set)


class LazyQueue(_Awaited, Generic[T]):
    """As `queue.Queue` without a limit; `queue` holds what is in it, the oldest first."""

    __slots__ = ("queue",)

    def __init__(self) -> None:
        self._gates = []
        self.queue: deque[T] = deque()

    def empty(self) -> bool:
        """Whether nothing is in it."""
        return not self.queue

    def qsize(self) -> int:
        """How much is in it."""
        return len(self.queue)

    def put(self, item: T) -> None:
        """Add an item, and wake all that wait for one."""
        self.queue.append(item)
        if self._gates:
            self._wake()

    def get_nowait(self) -> T:
        """Take the oldest item.

        Raises:
            queue.Empty: there is none.
        """
        return self.get(block=False)

    def get(self, block: bool = True, timeout: float | None = None) -> T:
        """Take the oldest item; wait for one.

        Args:
            block: False does not wait.
            timeout: seconds; None for no limit.
        Raises:
            queue.Empty: there is none, or none came in time.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            try:
                return self.queue.popleft()
            except IndexError:
                if not block:
                    raise queue.Empty from None
            left_s = None if deadline is None else deadline - time.monotonic()
            if left_s is not None and left_s <= 0:
                raise queue.Empty
            self._sleep(left_s, lambda: self.queue)
