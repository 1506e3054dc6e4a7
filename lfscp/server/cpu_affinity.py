"""Having threads that serve at the same time take turns on one processor.

Threads of one interpreter run one at a time anyway, and hand its lock on at every system call.
Where they are spread over processors, each of those short calls wakes another thread elsewhere, and
then waits to be woken itself; on one processor whoever called simply goes on. So while `MANY` of
them or more have something to do, they are bound to one processor: the one where the kernel has
just put the newest of them. It knows nothing of associations or of the pool.
"""

from __future__ import annotations

import contextlib
import logging
import math
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Final

LOGGER = logging.getLogger(__name__)

MANY: Final = 4  # so many have more of taking turns than of a second processor
IDLE_S: Final = 1.0  # who had nothing to do for so long is not one of them
_LOOK_AGAIN_S: Final = 1e-5  # for each member: to ask all of them takes a fortieth of that
_TASKS: Final = Path("/proc/self/task")
_PROCESSOR: Final = 36  # field 39 of proc(5), counted behind the command's name
_here: Final = threading.local()  # whose member the thread is, and how long idle
_EVERYWHERE: Final = os.sched_getaffinity(0)  # as the process began


class SharedProcessor:
    """Binds the threads inside `member` to one processor, while `MANY` of them are busy.

    Any thread may call any method; a forked process has to begin with nobody inside. A thread that
    a member starts is bound like it, and stays so.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._members: dict[int, Callable[[], float]] = {}  # by native thread ID: how long idle
        self._bound: set[int] = set()
        self._chosen: int | None = None
        self._look_at = self._many_at = -math.inf
        self._choices = sorted(_EVERYWHERE)

    @property
    def chosen(self) -> int | None:
        """The processor that the members are bound to; None while they are not."""
        return self._chosen

    def share(self, number: int, workers: int) -> None:
        """Choose among the processors of this worker, so that no two workers choose the same.

        Args:
            number: of the worker, from 0.
            workers: how many there are.
        """
        processors = sorted(_EVERYWHERE)
        self._choices = processors[number::workers] or processors[number % len(processors) :][:1]

    def member(self, idle_s: Callable[[], float] = lambda: 0.0) -> _Membership:
        """Count the calling thread among those that serve, while `with` lasts.

        Args:
            idle_s: for how many seconds the thread has had nothing to do; any thread may ask.
        """
        return _Membership(self, idle_s)

    def enter(self, idle_s: Callable[[], float]) -> None:
        """Make the calling thread a member."""
        me = _native_id()
        with self._lock:
            self._members[me] = idle_s
            self._settle()
            if self._chosen is not None:
                self._bind([me])

    def leave(self) -> None:
        """Let the calling thread go where it likes, and all when few are left."""
        me = _native_id()
        with self._lock:
            self._members.pop(me, None)
            self._free({me})
            self._settle()

    def look_again(self) -> None:
        """See who has something to do by now; to be called now and then."""
        with self._lock:
            self._look_at = self._many_at = -math.inf
            self._settle()

    def _settle(self) -> None:
        """Bind those who are busy, or free all; lock held."""
        if len(self._members) < MANY:
            self._free_all()
            return
        now = time.monotonic()
        if now < self._look_at:
            return
        self._look_at = now + len(self._members) * _LOOK_AGAIN_S
        busy = [each for each, idle_s in self._members.items() if idle_s() < IDLE_S]
        if len(busy) >= MANY:
            self._many_at = now
            self._bind(busy)
        elif now - self._many_at >= IDLE_S:  # not for each that comes and goes
            self._free_all()

    def _bind(self, busy: list[int]) -> None:
        """Bind them to where the others are, or the newest of them is; lock held."""
        if self._chosen is None:
            self._chosen = self._choice(busy[-1])
        if self._chosen is not None:
            for each in set(busy) - self._bound:
                _allow(each, {self._chosen})
            self._bound.update(busy)

    def _choice(self, newest: int) -> int | None:
        current = _current_processor(newest)
        if current is None or current in self._choices:
            return current
        return self._choices[current % len(self._choices)]

    def _free(self, members: set[int]) -> None:
        for each in members & self._bound:
            _allow(each, _EVERYWHERE)
        self._bound -= members

    def _free_all(self) -> None:
        self._free(set(self._bound))
        self._chosen = None


class _Membership:
    """A thread among those that serve."""

    __slots__ = ("idle_s", "processor")

    def __init__(self, processor: SharedProcessor, idle_s: Callable[[], float]) -> None:
        self.processor = processor
        self.idle_s = idle_s

    def __enter__(self) -> None:
        self.processor.enter(self.idle_s)
        _here.membership = self

    def __exit__(self, *_: object) -> None:
        _here.membership = None
        self.processor.leave()


@contextlib.contextmanager
def anywhere() -> Iterator[None]:
    """Let the calling thread go where it likes: for long work that needs no interpreter."""
    membership: _Membership | None = getattr(_here, "membership", None)
    if membership is None:
        yield
        return
    membership.processor.leave()
    try:
        yield
    finally:
        membership.processor.enter(membership.idle_s)


def _native_id() -> int:
    """The calling thread's number in the kernel, which need not be asked."""
    return threading.current_thread().native_id or threading.get_native_id()


def _allow(thread: int, processors: Iterable[int]) -> None:
    """Bind a thread; one that is gone, or a processor that is, does no harm."""
    try:
        os.sched_setaffinity(thread, processors)
    except OSError as problem:
        LOGGER.debug("Thread %d is not bound to %s: %s", thread, processors, problem)


def _current_processor(thread: int) -> int | None:
    """Where a thread runs; None when there is no choice, or nobody can tell."""
    if len(_EVERYWHERE) < 2:
        return None
    try:
        stat = (_TASKS / str(thread) / "stat").read_text()
        return int(stat.rpartition(")")[2].split()[_PROCESSOR])
    except (OSError, ValueError, IndexError):
        return None
