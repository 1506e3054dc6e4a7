"""Calls something at a later time: one thread that sleeps until the next is due; nothing polls."""

from __future__ import annotations

import heapq
import threading
import time
from collections.abc import Callable


class Alarm:
    """Wakes names at their times.

    Args:
        ring: called with each name when its time has come, in the alarm's thread.
    """

    def __init__(self, ring: Callable[[str], None]) -> None:
        self._ring = ring
        self._changed = threading.Condition()
        self._due: dict[str, float] = {}
        self._heap: list[tuple[float, str]] = []
        self._thread: threading.Thread | None = None
        self._stopped = False

    def set(self, name: str, after_s: float) -> None:
        """Ring for `name` in so many seconds, instead of any time set before."""
        due = time.monotonic() + after_s
        with self._changed:
            if self._stopped:
                return
            self._due[name] = due
            heapq.heappush(self._heap, (due, name))
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="lfscp-alarm", daemon=True)
                self._thread.start()
            self._changed.notify_all()

    def cancel(self, name: str) -> bool:
        """Do not ring for `name`; whether it was set."""
        with self._changed:
            return self._due.pop(name, None) is not None

    def stop(self) -> None:
        """Ring no more."""
        with self._changed:
            self._stopped = True
            self._due.clear()
            self._changed.notify_all()

    def _run(self) -> None:
        while (name := self._next()) is not None:
            self._ring(name)

    def _next(self) -> str | None:
        """Wait for the next that is due; None after `stop()`."""
        with self._changed:
            while not self._stopped:
                if not self._heap:
                    self._changed.wait()
                    continue
                due, name = self._heap[0]
                if self._due.get(name) != due:  # cancelled, or set anew
                    heapq.heappop(self._heap)
                elif (left := due - time.monotonic()) > 0:
                    self._changed.wait(left)
                else:
                    heapq.heappop(self._heap)
                    del self._due[name]
                    return name
        return None
