"""The processes that render, as the node sees them: started when needed, bounded, replaced.

Rules: all of them together stay within `budgets.rendering_mb`. A picture gets an equal share; one
that needs more has all of it, alone. Turns are taken in the order of asking, and few may wait. What
a process dies of is that picture's fault, and the next one gets a new process.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import subprocess
import sys
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Final

import lfscp
from lfscp.observe import metrics
from lfscp.observe.logging import get_logger
from lfscp.web.render_messages import receive, send

LOG: Final = get_logger("lfscp.web")
PICTURE_S: Final = 30.0  # that one picture may take
MAX_WAITING: Final = 24  # fewer than threads that serve the page
SMALL: Final = 256 << 10  # bytes of a picture that the node holds in memory
_START_S: Final = 60.0
_BEGIN_S: Final = 10.0
_ANSWER_S: Final = 5.0  # after its time is up
_OWN_BYTES: Final = 8 << 20  # of a process that renders, before it does
_LEAST_SHARE: Final = 40 << 20
_NOT_KEPT: Final = 20 << 20  # of a share; the rest is for frames to be asked for again
_LARGE: Final = 64
_KNOWN: Final = 64
_PIECE: Final = 1 << 18
# glibc: large blocks go back to the system when they are freed. Threads would only cost memory.
_ENVIRONMENT: Final = {
    "MALLOC_ARENA_MAX": "1",
    "MALLOC_MMAP_THRESHOLD_": str(1 << 20),
    "MALLOC_TRIM_THRESHOLD_": str(1 << 20),
    **dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1"),
}
_NOT_INHERITED: Final = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "LISTEN_FDS")


class RenderingError(Exception):
    """A picture is refused; the text says why, fit for the visitor.

    Args:
        why: as it is counted, one of `metrics.REFUSED_PICTURES`.
    """

    def __init__(self, why: str, text: str) -> None:
        super().__init__(text)
        self.why = why


@dataclass(frozen=True, slots=True)
class Answer:
    """What a process answered.

    Args:
        content: its bytes; a file, at its beginning, when they are many.
    """

    fields: dict[str, Any]
    content: bytes | BinaryIO


@dataclass(slots=True)
class _Process:
    connection: socket.socket
    states: deque[str] = field(default_factory=lambda: deque(maxlen=_KNOWN))  # it may have them


@dataclass(slots=True)
class _First:
    """The process that forks the others."""

    process: subprocess.Popen[bytes]
    connection: socket.socket
    resident: int


class RenderPool:
    """The processes that render for one node. Any thread may ask.

    Args:
        most_bytes: memory of all of them.
        at_once: most pictures at the same time; 0 is one for each processor.
        seconds: that one picture may take.
    """

    def __init__(self, most_bytes: int, at_once: int = 0, seconds: float = PICTURE_S) -> None:
        self._most_bytes = most_bytes
        self._at_once = at_once or max(1, min(2, len(os.sched_getaffinity(0))))
        self._seconds = seconds
        self._changed = threading.Condition()
        self._queue: deque[object] = deque()
        self._busy = 0
        self._is_alone = False  # the one that is busy has all memory
        self._idle: list[_Process] = []
        self._large: deque[str] = deque(maxlen=_LARGE)  # objects that needed all memory lately
        self._starting = threading.Lock()
        self._first: list[_First] = []  # one, or none
        self._end = weakref.finalize(self, _end, self._idle, self._first)

    def close(self) -> None:
        """End all processes; what is being rendered fails."""
        with self._changed, self._starting:
            _end(self._idle, self._first)

    def run(
        self, task: dict[str, Any], descriptor: int, state: str, spool: Callable[[], BinaryIO]
    ) -> Answer:
        """Have a task done (see `render_tasks`).

        Args:
            descriptor: of the object's file.
            state: names its content: who has it in memory is asked first.
            spool: makes a file for many bytes.
        Raises:
            RenderingError: it is refused.
        """
        alone = state in self._large
        answer = self._run(task, descriptor, state, spool, alone=alone)
        if "more" in answer.fields and not alone:
            self._large.append(state)
            answer = self._run(task, descriptor, state, spool, alone=True)
        if "more" in answer.fields:
            need = answer.fields["more"]
            what = f"about {-(-need >> 20)} MB" if need else "more"
            text = f"it needs {what} of memory, and budgets.rendering_mb is"
            raise RenderingError("memory", f"{text} {self._most_bytes >> 20}")
        if "failed" in answer.fields:
            LOG.error("rendering failed unexpectedly", reason=answer.fields["failed"])
            raise RenderingError("process", "rendering failed; the log of the node says more")
        return answer

    def _run(
        self,
        task: dict[str, Any],
        descriptor: int,
        state: str,
        spool: Callable[[], BinaryIO],
        *,
        alone: bool,
    ) -> Answer:
        self._wait_for_turn(alone=alone)
        process: _Process | None = None
        is_sound = False
        started = time.monotonic()
        try:
            process = self._take(state, alone=alone)
            started = time.monotonic()
            answer = self._ask(process, task, descriptor, state, spool, alone=alone)
            is_sound = True
        except (EOFError, OSError, ValueError) as error:
            raise self._failure(error, time.monotonic() - started, process) from None
        else:
            return answer
        finally:
            self._give_back(process if is_sound else None)
            if process is not None and not is_sound:
                process.connection.close()

    # --- turns ---

    def _wait_for_turn(self, *, alone: bool) -> None:
        turn = object()
        with self._changed:
            if len(self._queue) >= MAX_WAITING:
                raise RenderingError("busy", "too many pictures are asked for; ask again")
            self._queue.append(turn)
            metrics.WAITING_PICTURES.set(len(self._queue))
            try:
                while self._queue[0] is not turn or not self._is_free(alone=alone):
                    self._changed.wait()
                self._busy += 1
                self._is_alone = alone
            finally:
                self._queue.remove(turn)
                metrics.WAITING_PICTURES.set(len(self._queue))
                self._changed.notify_all()

    def _is_free(self, *, alone: bool) -> bool:
        if alone:
            return not self._busy
        return not self._is_alone and self._busy < self._count()

    def _give_back(self, process: _Process | None) -> None:
        with self._changed:
            self._busy -= 1
            self._is_alone = False
            if process is not None:
                self._idle.append(process)
            self._changed.notify_all()

    # --- memory ---

    def _left(self) -> int:
        """What the first process leaves to the others."""
        return self._most_bytes - sum(first.resident for first in self._first)

    def _count(self) -> int:
        """How many may render at once, with enough memory for each."""
        return max(1, min(self._at_once, self._left() // (_LEAST_SHARE + _OWN_BYTES)))

    def _grant(self, *, alone: bool) -> int:
        share = self._left() // (1 if alone else self._count())
        return max(_OWN_BYTES, share - _OWN_BYTES)

    # --- processes ---

    def _take(self, state: str, *, alone: bool) -> _Process:
        with self._changed:
            for each in [each for each in self._idle if _has_ended(each.connection)]:
                self._idle.remove(each)
                each.connection.close()
            known = [each for each in self._idle if state in each.states]
            found = (known or self._idle)[-1:]
            for each in found:
                self._idle.remove(each)
            if alone:
                while self._idle:
                    self._idle.pop().connection.close()
        return found[0] if found else self._begin()

    def _begin(self) -> _Process:
        """A new process; raises OSError, EOFError."""
        with self._starting:
            if self._first and _has_ended(self._first[0].connection):
                _end([], self._first)
            if not self._first:
                self._first.append(_start())
            ours, theirs = socket.socketpair()
            try:
                with theirs:
                    socket.send_fds(self._first[0].connection, [b"."], [theirs.fileno()])
                ours.settimeout(_BEGIN_S)
                hello = receive(ours).fields
            except BaseException:
                ours.close()
                _end([], self._first)  # it does not answer: the next one begins anew
                raise
        metrics.RENDERING_PROCESS_STARTS.add()
        if hello["unlimited"]:
            LOG.warning("rendering has no memory limit", reason=hello["unlimited"])
        return _Process(ours)

    def _ask(
        self,
        process: _Process,
        task: dict[str, Any],
        descriptor: int,
        state: str,
        spool: Callable[[], BinaryIO],
        *,
        alone: bool,
    ) -> Answer:
        process.connection.settimeout(self._seconds + _ANSWER_S)
        most = self._grant(alone=True)
        limits = {
            "grant": self._grant(alone=alone),
            "most": most,
            "keep": self._grant(alone=False) - _NOT_KEPT,
            "seconds": self._seconds,
        }
        send(process.connection, {**task, **limits, "state": state}, descriptor=descriptor)
        process.states.append(state)
        answer = receive(process.connection)
        return Answer(answer.fields, _body(process.connection, answer.length, spool))

    def _failure(self, error: Exception, took_s: float, process: _Process | None) -> RenderingError:
        """What to say of a process that ended, or did not answer."""
        if isinstance(error, _NoSpaceError):
            return RenderingError("disk", f"there is no room for it on the disk: {error}")
        metrics.RENDERING_PROCESS_FAILURES.add()
        if process is None:
            LOG.error("cannot start a process that renders", reason=str(error))
            return RenderingError("process", "the process that renders cannot be started")
        if isinstance(error, TimeoutError):  # its own clock should have ended it
            with self._starting:
                _end([], self._first)
        if took_s >= self._seconds:
            return RenderingError("time", f"it takes longer than {self._seconds:g} s")
        return RenderingError("process", "the process that rendered it ended; it may be broken")


class _NoSpaceError(OSError):
    """The disk takes no more of a picture."""


def _body(
    connection: socket.socket, length: int, spool: Callable[[], BinaryIO]
) -> bytes | BinaryIO:
    """The body of an answer; raises _NoSpaceError, EOFError, OSError."""
    if length <= SMALL:
        return b"".join(_pieces(connection, length))
    try:
        file = spool()
    except OSError as error:
        raise _NoSpaceError(error.strerror) from None
    try:
        for piece in _pieces(connection, length):
            try:
                file.write(piece)
            except OSError as error:
                raise _NoSpaceError(error.strerror) from None
        file.seek(0)
    except BaseException:
        with contextlib.suppress(OSError):
            file.close()
        raise
    return file


def _pieces(connection: socket.socket, length: int) -> Any:
    while length:
        piece = connection.recv(min(length, _PIECE))
        if not piece:
            raise EOFError
        length -= len(piece)
        yield piece


def _has_ended(connection: socket.socket) -> bool:
    """Whether the process at the other end is gone: one that is idle says nothing."""
    poll = select.poll()
    poll.register(connection, select.POLLIN)
    return bool(poll.poll(0))


def _start() -> _First:
    """Start the process that forks the others; raises OSError, EOFError."""
    ours, theirs = socket.socketpair()
    environment = {key: text for key, text in os.environ.items() if key not in _NOT_INHERITED}
    paths = [str(Path(lfscp.__file__).parents[1]), environment.get("PYTHONPATH", "")]
    environment |= {**_ENVIRONMENT, "PYTHONPATH": os.pathsep.join(filter(None, paths))}
    command = [sys.executable, "-P", "-m", "lfscp.web.render_process", str(theirs.fileno())]
    try:
        with theirs:
            process = subprocess.Popen(  # noqa: S603 - our own
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                pass_fds=(theirs.fileno(),),
                start_new_session=True,
                env=environment,
            )
    except BaseException:
        ours.close()
        raise
    first = _First(process, ours, 0)
    try:
        ours.settimeout(_START_S)
        first.resident = receive(ours).fields["resident"]
    except BaseException:
        _end([], [first])
        raise
    return first


def _end(idle: list[_Process], first: list[_First]) -> None:
    while idle:
        idle.pop().connection.close()
    while first:
        ended = first.pop()
        ended.connection.close()
        ended.process.kill()  # the kernel ends those that it has forked
        ended.process.wait()
