"""Converts the next objects of a retrieve in threads of its own, while one is being sent.

Rules: only objects that must be decoded, and whose result is small enough for the memory that small
results share; none waits for disk space, which those before it may hold. One that is large as it is
stored is not even read. If one cannot be converted ahead, it is converted when its turn comes, and
only then does an error count.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Final, NamedTuple

from lfscp.archive.store.budget import LOOK_AGAIN_S
from lfscp.archive.store.object_store import StoredFile
from lfscp.archive.store.received_objects import StoredInstance
from lfscp.archive.store.spool import SMALL
from lfscp.server.cpu_affinity import anywhere
from lfscp.services.transcoding.dataset_conversion import Converted, Note
from lfscp.services.transcoding.decoding import TARGETS, converted, needs_codec
from lfscp.services.transcoding.growing_result import GrowingResult, growing

MAX_AHEAD: Final = min(4, len(os.sched_getaffinity(0)))
LARGE: Final = 8 << 20  # bytes of a stored object that may take long


class Wanted(NamedTuple):
    """A stored object and the transfer syntax that its receiver takes; see `converted`.

    Args:
        state: of its file now; what was prepared of another state is not sent.
    """

    path: StoredFile
    stored_syntax: str
    wanted_syntax: str
    dataset_offset: int
    size: int
    state: tuple[int, ...] = ()

    @property
    def is_decoded(self) -> bool:
        """Whether its pixels are decoded for the receiver."""
        return needs_codec(self.stored_syntax) and self.wanted_syntax in TARGETS


def wanted_of(instance: StoredInstance, wanted_syntax: str) -> Wanted:
    """An object that is to be sent in a transfer syntax."""
    path, stored = instance.path, instance.transfer_syntax_uid
    state = () if wanted_syntax == stored else _state_of(path)
    return Wanted(path, stored, wanted_syntax, instance.dataset_offset, instance.size, state)


def _state_of(path: StoredFile) -> tuple[int, ...]:
    """What changes with the content of a file, or when it is gone; of a local one."""
    if isinstance(path, Path):
        with suppress(OSError):
            state = path.stat()
            return state.st_dev, state.st_ino, state.st_size, state.st_mtime_ns
    return ()


class _ClosedError(Exception):
    """Nobody wants the object any more."""


_Ready = Future[tuple[Converted, ExitStack]]


class Ahead:
    """The objects of one retrieve; for one thread.

    Args:
        owner: as `converted` takes it.
    """

    def __init__(self, owner: object) -> None:
        self._owner = owner
        self._jobs: dict[Wanted, _Ready] = {}
        self._threads: ThreadPoolExecutor | None = None
        self._is_closed = False

    def prepare(self, wanted: Sequence[Wanted]) -> None:
        """Begin with objects.

        Args:
            wanted: the one whose turn it is, which is not begun, and those that follow it; any
                others are let go.
        """
        for each in [each for each in self._jobs if each not in wanted]:
            self._drop(each)
        for each in wanted[1 : MAX_AHEAD + 1]:
            if each.is_decoded and each.size <= SMALL and each not in self._jobs:
                try:
                    self._jobs[each] = self._begun(each)
                except RuntimeError:  # the system has no thread left: all in their turn
                    self._end_threads()
                    return

    @contextmanager
    def converted(self, wanted: Wanted, look: Callable[[], None]) -> Iterator[Converted]:
        """An object that was prepared, or is converted now; as the function of this name."""
        with ExitStack() as kept:
            made = self._taken(wanted, look, kept)
            if made is None:
                made = kept.enter_context(self._converted_now(wanted, look))
            yield made

    @contextmanager
    def begun(
        self, wanted: Wanted, look: Callable[[], None]
    ) -> Iterator[Converted | GrowingResult]:
        """The same, or what grows while it is read, if to convert a large object takes long."""
        if wanted.size <= LARGE:
            with self.converted(wanted, look) as made:
                yield made
            return
        with growing(partial(self._converted_now, wanted), look) as begun:
            yield begun

    def _converted_now(
        self, wanted: Wanted, look: Callable[[], None], note: Note | None = None
    ) -> AbstractContextManager[Converted]:
        path, stored, syntax, offset = wanted[:4]
        return converted(path, stored, syntax, offset, look=look, owner=self._owner, note=note)

    def close(self) -> None:
        """Let go of all that was prepared; none is prepared afterwards."""
        self._is_closed = True
        for each in list(self._jobs):
            self._drop(each)
        self._end_threads()

    def _drop(self, wanted: Wanted) -> None:
        job = self._jobs.pop(wanted)
        job.cancel()
        job.add_done_callback(_let_go)

    def _end_threads(self) -> None:
        threads, self._threads = self._threads, None
        if threads is not None:
            threads.shutdown(wait=False, cancel_futures=True)

    def _begun(self, wanted: Wanted) -> _Ready:
        if self._threads is None:
            self._threads = ThreadPoolExecutor(MAX_AHEAD, thread_name_prefix="converting")
        with anywhere():  # a new thread may run where this one may
            return self._threads.submit(self._convert, wanted)

    def _convert(self, wanted: Wanted) -> tuple[Converted, ExitStack]:
        path, stored, syntax, offset = wanted[:4]
        with ExitStack() as opened:
            made = converted(
                path, stored, syntax, offset, look=self._look, owner=self._owner, in_memory=True
            )
            return opened.enter_context(made), opened.pop_all()

    def _look(self) -> None:
        if self._is_closed:
            raise _ClosedError

    def _taken(self, wanted: Wanted, look: Callable[[], None], kept: ExitStack) -> Converted | None:
        """What was prepared; None if it could not be."""
        job = self._jobs.get(wanted)
        if job is None:
            return None
        while not job.done():
            with suppress(TimeoutError, CancelledError):
                job.exception(LOOK_AGAIN_S)
            look()
        del self._jobs[wanted]
        if job.cancelled() or job.exception() is not None:
            return None
        made, opened = job.result()
        kept.enter_context(opened)
        return made


def _let_go(job: _Ready) -> None:
    if not job.cancelled() and job.exception() is None:
        job.result()[1].close()
