"""Starts the rendering processes, limits them, and replaces them.

Rules: all of them together stay within `budgets.rendering_mb`. Each picture gets an equal share; a
picture that needs more is rendered alone, with all of it. Pictures take turns in the order they
were asked for, and few may wait. If a process dies or takes too long, its picture is refused, and
the next picture gets a new process.
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
from lfscp.web.imaging.errors import NoPictureError

LOG: Final = get_logger("lfscp.web")
PICTURE_S: Final = 30.0  # that one picture may take
MAX_WAITING: Final = 24  # fewer than threads that serve the page
SMALL: Final = 256 << 10  # bytes of a picture that the node holds in memory
_OWN_BYTES: Final = 8 << 20  # of a process that renders, before it does
_LEAST_SHARE: Final = 40 << 20
_NOT_KEPT: Final = 20 << 20  # of a share; the rest is for frames to be asked for again
_STOPPING: Final = "the node is stopping"
_LARGE: Final = 64


class PictureRefusedError(NoPictureError):
    """A picture is refused for what it costs, not for what it is.

    Args:
        why: as it is counted, one of `metrics.REFUSED_PICTURES`.
        text: fit for the visitor.
    """

    def __init__(self, why: str, text: str) -> None:
        super().__init__(text)
        self.why = why


class _NoSpaceError(OSError):
    """The disk is full."""


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer of a process.

    Args:
        content: a file, at its beginning, when it is large.
        is_written: whether the content is in the output of the task instead.
    """

    fields: dict[str, Any]
    content: bytes | BinaryIO
    is_written: bool = False


@dataclass(frozen=True, slots=True)
class Task:
    """A task for a process (see `tasks`).

    Args:
        descriptor: of the object's file.
        state: names its content; a process that has it in memory is asked first.
        spool: makes a file for so many bytes.
        output: descriptor of an empty file that the process may write the content into; -1: none.
    """

    fields: dict[str, Any]
    descriptor: int
    state: str
    spool: Callable[[int], BinaryIO]
    output: int = -1


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
        """End all processes; the pictures that are being rendered, or wait, are refused."""
        self._is_closed = True
        self._server.close()
        self._idle.end()

    def run(self, task: Task) -> Answer:
        """Have a task done.

        Raises:
            PictureRefusedError: it is refused.
        """
        alone = task.state in self._large
        answer = self._run(task, alone=alone)
        if "more" in answer.fields and not alone:
            self._large.append(task.state)
            answer = self._run(task, alone=True)
        if "more" in answer.fields:
            need, most = answer.fields["more"], self._grant(alone=True)
            what = f"about {-(-need >> 20)} MB of" if need > most else "too much"
            left = f"{most >> 20} MB of budgets.rendering_mb are left"
            raise PictureRefusedError("memory", f"it needs {what} memory, and {left}")
        if "no_space" in answer.fields:
            raise PictureRefusedError("disk", answer.fields["no_space"])
        if "failed" in answer.fields:
            LOG.error("rendering failed unexpectedly", reason=answer.fields["failed"])
            raise PictureRefusedError("process", "rendering failed; see the node's log")
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
            raise PictureRefusedError("busy", "too many pictures are requested at once; try again")
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
            raise PictureRefusedError("busy", _STOPPING)

    def _left(self) -> int:
        """Bytes that the first process leaves to the others."""
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
        child.send(task.fields | limits, descriptor=task.descriptor, output=task.output)
        answer = child.receive(self._seconds)
        if "written" in answer.fields:
            _require_size(task.output, answer.fields["written"])
            return Answer(answer.fields, b"", is_written=True)
        pieces = child.pieces(answer.length, self._seconds)
        if answer.length <= SMALL:
            return Answer(answer.fields, b"".join(bytes(each) for each in pieces))
        return Answer(answer.fields, _spooled(pieces, answer.length, task.spool))

    def _failure(self, error: Exception, took_s: float, child: Child | None) -> PictureRefusedError:
        """Say why a process ended, or did not answer."""
        if isinstance(error, _NoSpaceError):
            return PictureRefusedError("disk", f"there is no room for it on the disk: {error}")
        if self._is_closed:  # which ended the process, and may have before it began
            return PictureRefusedError("busy", _STOPPING)
        metrics.RENDERING_PROCESS_FAILURES.add()
        if child is None:
            LOG.error("cannot start a rendering process", reason=str(error))
            return PictureRefusedError("process", "the rendering process cannot be started")
        if took_s >= self._seconds:
            return PictureRefusedError("time", f"it takes longer than {self._seconds:g} s")
        return PictureRefusedError(
            "process", "the process that rendered it ended; it may be damaged"
        )


def _require_size(output: int, size: int) -> None:
    """Require that a file is as long as the process says; raises ValueError, OSError."""
    if not 0 < os.fstat(output).st_size == size:
        raise ValueError("the picture was not written as a whole")


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
