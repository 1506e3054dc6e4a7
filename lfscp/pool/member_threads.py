"""Starts the threads of a pool: with names of their own, and none after the shutdown."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable

_names_in_use: set[str] = set()
_names_lock = threading.Lock()


class MemberThreads:
    """The threads that one pool starts.

    Args:
        name: of the pool, from which the names of threads are made.
        daemon: whether the process may end while they are at work.
        is_shutdown: whether no thread may be started any more.
    """

    def __init__(self, name: str, *, daemon: bool, is_shutdown: Callable[[], bool]) -> None:
        self._name = name
        self._daemon = daemon
        self._is_shutdown = is_shutdown
        # Held while a thread is started, so that none is started after shutdown() has returned.
        # Not the pool's lock: the new thread needs that one to lead, and need not wait for us.
        self._starting = threading.RLock()
        self._numbers = itertools.count(1)

    def start(self, run: Callable[[], None]) -> bool:
        """Start a thread; False after the shutdown.

        Raises:
            RuntimeError: the system starts no more threads.
        """
        name = self.reserve_name()
        thread = threading.Thread(
            target=self._run, args=(run, name), name=name, daemon=self._daemon
        )
        is_started = False
        try:
            with self._starting:
                if not self._is_shutdown():
                    thread.start()
                    is_started = True
        finally:
            if not is_started:
                _release_name(name)
        return is_started

    def wait_for_starts(self) -> None:
        """Wait until a start that was under way is over; the next one sees the shutdown."""
        with self._starting:
            pass

    def reserve_name(self) -> str:
        """A name that no pool's thread has, also when two pools have the same name."""
        with _names_lock:
            while (name := f"{self._name}-{next(self._numbers)}") in _names_in_use:
                pass
            _names_in_use.add(name)
        return name

    @staticmethod
    def _run(run: Callable[[], None], name: str) -> None:
        try:
            run()
        finally:
            _release_name(name)


def _release_name(name: str) -> None:
    with _names_lock:
        _names_in_use.discard(name)
