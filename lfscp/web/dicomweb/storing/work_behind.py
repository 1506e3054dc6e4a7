"""Does work in a thread of its own while the caller goes on: an object is stored as the next comes.

Rules: one piece of work at a time, in order. The last piece is done by whoever waits for it, so
that a request with one object starts no thread.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import copy_context


class WorkBehind:
    """The work of one request; for one caller at a time, from any thread."""

    def __init__(self) -> None:
        self._next: Callable[[], None] | None = None
        self._running: Future[None] | None = None
        self._pool: ThreadPoolExecutor | None = None

    def add(self, work: Callable[[], None]) -> None:
        """Have this done after what was added before; raises what that has raised."""
        self.wait()
        self._next = work

    def start(self) -> None:
        """Begin with what was added last: the caller has something else to do."""
        if self._next is None:
            return
        if self._pool is None:
            self._pool = ThreadPoolExecutor(1, "lfscp-stow")
        try:
            self._running = self._pool.submit(copy_context().run, self._next)
        except RuntimeError:  # the system starts no thread: who waits does it
            self._pool.shutdown(wait=False, cancel_futures=True)
            self._pool = None
            return
        self._next = None

    def wait(self) -> None:
        """Wait until all is done; raises what it has raised."""
        running, self._running = self._running, None
        if running is not None:
            running.result()
        work, self._next = self._next, None
        if work is not None:
            work()

    def close(self) -> None:
        """The same, and end the thread."""
        try:
            self.wait()
        finally:
            if self._pool is not None:
                self._pool.shutdown()
