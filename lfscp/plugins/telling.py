"""Tells a plug-in what has happened: in order, in a thread of its own, through a bounded queue.

Rules: nobody who tells waits. If the queue is full, what comes is lost for this plug-in; it is
counted and logged. A plug-in that hangs keeps its own queue only, and is named. What is still
queued at the end is told within a time limit; the rest is counted and logged too. Events of a
moment are told together: a thread that wakes for each takes a tenth of the rate of stores.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Final

from lfscp.observe import metrics
from lfscp.plugins.specifications import TOLD

_MOMENT_S: Final = 0.05
_SAY_EVERY_S: Final = 10.0  # how many were lost, while they are
_LOST: Final = {hook: metrics.PLUGIN_CALLS.of(hook, "lost") for hook in TOLD}

Event = tuple[str, Callable[[], None]]  # the hook's name, and its call


class Queue:
    """What one plug-in is still to be told. Any thread may call it.

    Args:
        plugin: its name.
        size: the most that may wait.
        say: writes a line about the plug-in: event, hook, more fields.
    """

    def __init__(self, plugin: str, size: int, say: Callable[..., None]) -> None:
        self._plugin = plugin
        self._size = size
        self._say = say
        self._waiting: deque[Event] = deque()
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._is_ending = False
        self._has_ended = threading.Event()
        self._lost = 0
        self._said_at = float("-inf")
        self._running: tuple[str, float] | None = None
        self._named: tuple[str, float] | None = None

    def __len__(self) -> int:
        return len(self._waiting)

    def put(self, hook: str, call: Callable[[], None]) -> None:
        """Tell it later; never waits."""
        with self._changed:
            if self._is_ending:
                self._count_lost(hook)
                return
            if len(self._waiting) < self._size:
                self._append(hook, call)
                return
        self._lose(hook)

    def _append(self, hook: str, call: Callable[[], None]) -> None:
        is_first = not self._waiting
        self._waiting.append((hook, call))
        if self._thread is None:
            name = f"lfscp-plugin-{self._plugin}"
            self._thread = threading.Thread(target=self._tell, name=name, daemon=True)
            self._thread.start()
        if is_first or len(self._waiting) * 2 > self._size:
            self._changed.notify()

    def _count_lost(self, hook: str) -> None:
        _LOST[hook].add()
        metrics.CALLS_OF_PLUGINS.add(self._plugin, "lost")

    def _lose(self, hook: str) -> None:
        self._count_lost(hook)
        with self._changed:
            self._lost += 1
            now = time.monotonic()
            if now - self._said_at < _SAY_EVERY_S:
                return
            self._said_at, lost, self._lost = now, self._lost, 0
        self._say("plug-in is too slow, events are lost", hook, lost=lost, queued=self._size)

    def _tell(self) -> None:
        while True:
            with self._changed:
                if not self._waiting and not self._is_ending:
                    self._changed.wait_for(lambda: self._waiting or self._is_ending)
                    self._changed.wait_for(self._is_pressing, _MOMENT_S)
                if not self._waiting:
                    break
                hook, call = self._waiting.popleft()
            self._running = (hook, time.monotonic())
            call()
            self._running = None
            del call
        self._has_ended.set()

    def _is_pressing(self) -> bool:
        return self._is_ending or len(self._waiting) * 2 > self._size

    def name_if_hanging(self, limit_s: float) -> None:
        """Write a line if a call has run for too long; once for each call."""
        running = self._running
        if running is None or running is self._named or time.monotonic() - running[1] < limit_s:
            return
        self._named = running
        self._say("plug-in hangs", running[0], seconds=round(time.monotonic() - running[1]))

    def end(self, last: Event | None, timeout_s: float) -> None:
        """Take no more, and tell what waits and then `last`, within a time limit."""
        with self._changed:
            if last is not None:
                self._append(*last)
            self._is_ending = True
            self._changed.notify()
            thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            self._has_ended.wait(timeout_s)
        with self._changed:
            left, self._waiting = list(self._waiting), deque()
            lost = self._lost + len(left)
            running = self._running
        for hook, _ in left:
            self._count_lost(hook)
        if lost or (thread is not None and not self._has_ended.is_set()):
            at = running[0] if running is not None else left[0][0] if left else "stored"
            self._say("plug-in left behind at the end", at, lost=lost)
