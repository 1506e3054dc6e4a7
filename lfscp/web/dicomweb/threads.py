"""Runs functions in threads of their own, in their order, for one event loop.

A request is handed to a thread and back once for each piece of its answer. This costs about a
third of what anyio's hand-over does: no turn of the event loop is waited for before it.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from contextvars import Context, copy_context
from queue import Empty, SimpleQueue
from typing import Any, Final, NamedTuple, TypeVar
from weakref import WeakKeyDictionary

T = TypeVar("T")
AT_ONCE: Final = 32
IDLE_S: Final = 10.0  # until a thread ends that has nothing to do


class _Job(NamedTuple):
    future: asyncio.Future[Any]
    context: Context
    function: Callable[..., Any]
    args: tuple[Any, ...]


class Threads:
    """A number of threads, which are started when they are needed.

    Args:
        most: that work at once; what is more waits.
    """

    def __init__(self, most: int = AT_ONCE) -> None:
        self._most = most
        self._jobs: SimpleQueue[_Job] = SimpleQueue()
        self._lock = threading.Lock()
        self._threads = 0
        self._unfinished = 0

    async def run(self, function: Callable[..., T], *args: object) -> T:
        """Call a function in a thread, and wait for what it returns or raises."""
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        with self._lock:
            if self._unfinished >= self._threads and self._threads < self._most:
                self._start()
            self._unfinished += 1
            self._jobs.put(_Job(future, copy_context(), function, args))
        return await future

    def _start(self) -> None:
        """Start a thread; without one more, those that there are go on.

        Raises:
            RuntimeError: there is none, and the system starts none.
        """
        try:
            threading.Thread(target=self._work, name="lfscp-dicomweb", daemon=True).start()
        except RuntimeError:
            if not self._threads:
                raise
            return
        self._threads += 1

    def _work(self) -> None:
        while True:
            try:
                job = self._jobs.get(timeout=IDLE_S)
            except Empty:
                with self._lock:
                    if self._jobs.empty():
                        self._threads -= 1
                        return
                continue
            self._do(job)
            del job  # which may hold much, until the next one comes

    def _do(self, job: _Job) -> None:
        result: object = None
        error: BaseException | None = None
        try:
            result = job.context.run(job.function, *job.args)
        except StopIteration as stop:  # which no future takes
            error = RuntimeError("the function raised StopIteration")
            error.__cause__ = stop
        except BaseException as raised:  # noqa: BLE001 - it is raised where the result is waited for
            error = raised
        with self._lock:
            self._unfinished -= 1
        with suppress(RuntimeError):  # the event loop is closed
            job.future.get_loop().call_soon_threadsafe(_finish, job.future, result, error)


def _finish(future: asyncio.Future[Any], result: object, error: BaseException | None) -> None:
    if future.cancelled():
        return
    if error is not None:
        future.set_exception(error)
    else:
        future.set_result(result)


_OF_LOOPS: Final[WeakKeyDictionary[asyncio.AbstractEventLoop, Threads]] = WeakKeyDictionary()


def threads() -> Threads:
    """The threads of the event loop that runs here."""
    loop = asyncio.get_running_loop()
    found = _OF_LOOPS.get(loop)
    if found is None:
        found = _OF_LOOPS.setdefault(loop, Threads())
    return found
