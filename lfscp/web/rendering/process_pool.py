"""The pool of rendering processes: starts, limits and replaces them.

Rules: all of them together stay within `budgets.rendering_mb`. A picture gets an equal share; one
that needs more has all of it, alone. Turns are taken in the order of asking, and few may wait. What
a process dies of is that picture's fault, and the next one gets a new process. One that takes too
long is ended.
"""

from __future__ import annotations

import contextlib
import os
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, BinaryIO, Final

from lfscp.archive.store.budget import Budget
from lfscp.observe import metrics
from lfscp.observe.logging import get_logger
from lfscp.processes.forking_server import Child, ForkingServer, IdleChildren

LOG: Final = get_logger("lfscp.web")
PICTURE_S: Final = 30.0  # that one picture may take
MAX_WAITING: Final = 24  # fewer than threads that serve the page
SMALL: Final = 256 << 10  # bytes of a picture that the node holds in memory
_OWN_BYTES: Final = 8 << 20  # of a process that renders, before it does
_LEAST_SHARE: Final = 40 << 20
_NOT_KEPT: Final = 20 << 20  # of a share; the rest is for frames to be asked for again
_STOPPING: Final = "the node is stopping"
_LARGE: Final = 64


class RenderingError(Exception):
    """A picture is refused; the text says why, fit for the visitor.

    Args:
        why: as it is counted, one of `metrics.REFUSED_PICTURES`.
    """

    def __init__(self, why: str, text: str) -> None:
        super().__init__(text)
        self.why = why


class _NoSpaceError(OSError):
    """The disk takes no more of a picture."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a process answered.

    Args:
        content: its bytes; a file, at its beginning, when they are many.
    """

    fields: dict[str, Any]
    content: bytes | BinaryIO


@dataclass(frozen=True, slots=True)
class Task:
    """What is asked for (see `render_tasks`).

    Args:
        descriptor: of the object's file.
        state: names its content: who has it in memory is asked first.
        spool: makes a file for so many bytes.
    """

    fields: dict[str, Any]
    descriptor: int
    state: str
    spool: Callable[[int], BinaryIO]


class RenderPool:
    """The processes that render for one node. Any thread may ask.

    Args:
        most_bytes: memory of all of them.
        at_once: most pictures at the same time; 0 is one for each processor.
        seconds: that one picture may take.
    """

    def __init__(self, most_bytes: int, at_once: int = 0, seconds: float = PICTURE_S) -> None:
        self._memory = Budget(most_bytes, "budgets.rendering_mb")
        self._at_once = at_once or max(1, min(2, len(os.sched_getaffinity(0))))
        self._seconds = seconds
        self._is_closed = False
        self._idle = IdleChildren(self._at_once)
        self._large: deque[str] = deque(maxlen=_LARGE)  # objects that needed all memory lately
        self._server = ForkingServer(f"{__package__}.process")
        weakref.finalize(self, self._server.close)

    def close(self) -> None:
        """End all processes; what is being rendered fails, and so does what waits."""
        self._is_closed = True
        self._server.close()
        self._idle.end()

    def run(self, task: Task) -> Answer:
        """Have a task done.

        Raises:
            RenderingError: it is refused.
        """
        alone = task.state in self._large
        answer = self._run(task, alone=alone)
        if "more" in answer.fields and not alone:
            self._large.append(task.state)
            answer = self._run(task, alone=True)
        if "more" in answer.fields:
            need, most = answer.fields["more"], self._grant(alone=True)
            what = f"about {-(-need >> 20)} MB" if need > most else "too much"
            left = f"{most >> 20} MB of budgets.rendering_mb are left"
            raise RenderingError("memory", f"it needs {what} of memory, and {left}")
        if "failed" in answer.fields:
            LOG.error("rendering failed unexpectedly", reason=answer.fields["failed"])
            raise RenderingError("process", "rendering failed; see the node's log")
        return answer

    def _run(self, task: Task, *, alone: bool) -> Answer:
        with self._turn(alone=alone):
            child: Child | None = None
            started = time.monotonic()
            try:
                child = self._take(task.state, alone=alone)
                started = time.monotonic()
                answer = self._ask(child, task, alone=alone)
            except BaseException as error:
                if child is not None:
                    child.end()
                if not isinstance(error, EOFError | OSError | ValueError):
                    raise
                raise self._failure(error, time.monotonic() - started, child) from None
            self._idle.keep(child, task.state)
            if self._is_closed:
                self._idle.end()
            return answer

    @contextmanager
    def _turn(self, *, alone: bool) -> Iterator[None]:
        """Wait for a share of the memory, or all of it."""
        self._require_open()
        if self._memory.waiting >= MAX_WAITING:
            raise RenderingError("busy", "too many pictures are requested at once; try again")
        whole = self._memory.limit_bytes
        try:
            with self._memory.reserve(whole // (1 if alone else self._count()), self._look):
                self._look()
                yield
        finally:
            metrics.WAITING_PICTURES.set(self._memory.waiting)

    def _look(self) -> None:
        metrics.WAITING_PICTURES.set(self._memory.waiting)
        self._require_open()

    def _require_open(self) -> None:
        if self._is_closed:
            raise RenderingError("busy", _STOPPING)

    def _left(self) -> int:
        """What the first process leaves to the others."""
        return self._memory.limit_bytes - self._server.resident_bytes

    def _count(self) -> int:
        """How many may render at once, with enough memory for each."""
        return max(1, min(self._at_once, self._left() // (_LEAST_SHARE + _OWN_BYTES)))

    def _grant(self, *, alone: bool) -> int:
        share = self._left() // (1 if alone else self._count())
        return max(_OWN_BYTES, share - _OWN_BYTES)

    def _take(self, state: str, *, alone: bool) -> Child:
        """A process, a new one if none is idle; raises OSError, EOFError, ValueError."""
        found = self._idle.take(state, of_others=True)
        if alone:
            self._idle.end()
        if found is not None:
            return found
        child = self._server.child()
        metrics.RENDERING_PROCESS_STARTS.add()
        if child.unlimited:
            LOG.warning("rendering has no memory limit", reason=child.unlimited)
        return child

    def _ask(self, child: Child, task: Task, *, alone: bool) -> Answer:
        limits = {
            "grant": self._grant(alone=alone),
            "most": self._grant(alone=True),
            "keep": self._grant(alone=False) - _NOT_KEPT,
            "state": task.state,
        }
        child.send(task.fields | limits, descriptor=task.descriptor)
        answer = child.receive(self._seconds)
        pieces = child.pieces(answer.length, self._seconds)
        if answer.length <= SMALL:
            return Answer(answer.fields, b"".join(bytes(each) for each in pieces))
        return Answer(answer.fields, _spooled(pieces, answer.length, task.spool))

    def _failure(self, error: Exception, took_s: float, child: Child | None) -> RenderingError:
        """What to say of a process that ended, or did not answer."""
        if isinstance(error, _NoSpaceError):
            return RenderingError("disk", f"there is no room for it on the disk: {error}")
        if self._is_closed:  # which ended the process, and may have before it began
            return RenderingError("busy", _STOPPING)
        metrics.RENDERING_PROCESS_FAILURES.add()
        if child is None:
            LOG.error("cannot start a rendering process", reason=str(error))
            return RenderingError("process", "the rendering process cannot be started")
        if took_s >= self._seconds:
            return RenderingError("time", f"it takes longer than {self._seconds:g} s")
        return RenderingError(
            "process", "the process that rendered it ended; perhaps it is damaged"
        )


def _spooled(
    pieces: Iterator[memoryview], length: int, spool: Callable[[int], BinaryIO]
) -> BinaryIO:
    """A file with a body, at its beginning; raises _NoSpaceError, EOFError, OSError."""
    with _disk():
        file = spool(length)
    try:
        for piece in pieces:
            with _disk():
                file.write(piece)
        with _disk():
            file.seek(0)
    except BaseException:
        with contextlib.suppress(OSError):
            file.close()
        raise
    return file


@contextmanager
def _disk() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise _NoSpaceError(error.strerror) from None
