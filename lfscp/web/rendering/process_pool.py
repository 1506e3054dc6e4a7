"""The pool of rendering processes: starts, limits and replaces them.

Rules: all of them together stay within `budgets.rendering_mb`. A picture gets an equal share; one
that needs more has all of it, alone. Turns are taken in the order of asking, and few may wait. What
a process dies of is that picture's fault, and the next one gets a new process.
"""

from __future__ import annotations

import os
import socket
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, BinaryIO, Final

from lfscp.observe import metrics
from lfscp.observe.logging import get_logger
from lfscp.web.rendering.messages import receive, send
from lfscp.web.rendering.subprocess import (
    First,
    NoSpaceError,
    Process,
    body_of,
    end,
    has_ended,
    start_first,
)

LOG: Final = get_logger("lfscp.web")
PICTURE_S: Final = 30.0  # that one picture may take
MAX_WAITING: Final = 24  # fewer than threads that serve the page
_BEGIN_S: Final = 10.0
_ANSWER_S: Final = 5.0  # after its time is up
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


@dataclass(frozen=True, slots=True)
class Answer:
    """What a process answered.

    Args:
        content: its bytes; a file, at its beginning, when they are many.
    """

    fields: dict[str, Any]
    content: bytes | BinaryIO


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
        self._changing = threading.Lock()
        self._queue: deque[threading.Condition] = deque()  # whose turn comes is woken, nobody else
        self._busy = 0
        self._is_closed = False
        self._is_alone = False  # the one that is busy has all memory
        self._idle: list[Process] = []
        self._large: deque[str] = deque(maxlen=_LARGE)  # objects that needed all memory lately
        self._starting = threading.Lock()
        self._first: list[First] = []  # one, or none
        self._end = weakref.finalize(self, end, self._idle, self._first)

    def close(self) -> None:
        """End all processes; what is being rendered fails, and so does what waits."""
        with self._changing:
            self._is_closed = True
            for turn in self._queue:
                turn.notify()
            end(self._idle, self._first)

    def run(
        self, task: dict[str, Any], descriptor: int, state: str, spool: Callable[[int], BinaryIO]
    ) -> Answer:
        """Have a task done (see `render_tasks`).

        Args:
            descriptor: of the object's file.
            state: names its content: who has it in memory is asked first.
            spool: makes a file for so many bytes.
        Raises:
            RenderingError: it is refused.
        """
        alone = state in self._large
        answer = self._run(task, descriptor, state, spool, alone=alone)
        if "more" in answer.fields and not alone:
            self._large.append(state)
            answer = self._run(task, descriptor, state, spool, alone=True)
        if "more" in answer.fields:
            need, most = answer.fields["more"], self._grant(alone=True)
            what = f"about {-(-need >> 20)} MB" if need > most else "too much"
            left = f"{most >> 20} MB of budgets.rendering_mb are left"
            raise RenderingError("memory", f"it needs {what} of memory, and {left}")
        if "failed" in answer.fields:
            LOG.error("rendering failed unexpectedly", reason=answer.fields["failed"])
            raise RenderingError("process", "rendering failed; see the node's log")
        return answer

    def _run(
        self,
        task: dict[str, Any],
        descriptor: int,
        state: str,
        spool: Callable[[int], BinaryIO],
        *,
        alone: bool,
    ) -> Answer:
        self._wait_for_turn(alone=alone)
        process: Process | None = None
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
        turn = threading.Condition(self._changing)
        with turn:
            self._require_open()
            if len(self._queue) >= MAX_WAITING:
                raise RenderingError("busy", "too many pictures are requested at once; try again")
            self._queue.append(turn)
            metrics.WAITING_PICTURES.set(len(self._queue))
            try:
                while self._queue[0] is not turn or not self._is_free(alone=alone):
                    turn.wait()
                    self._require_open()
                self._busy += 1
                self._is_alone = alone
            finally:
                self._queue.remove(turn)
                metrics.WAITING_PICTURES.set(len(self._queue))
                self._wake_next()

    def _wake_next(self) -> None:
        for turn in list(self._queue)[:1]:
            turn.notify()

    def _require_open(self) -> None:
        if self._is_closed:
            raise RenderingError("busy", _STOPPING)

    def _is_free(self, *, alone: bool) -> bool:
        if alone:
            return not self._busy
        return not self._is_alone and self._busy < self._count()

    def _give_back(self, process: Process | None) -> None:
        with self._changing:
            self._busy -= 1
            self._is_alone = False
            if process is not None:
                self._idle.append(process)
            self._wake_next()

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

    def _take(self, state: str, *, alone: bool) -> Process:
        with self._changing:
            for each in [each for each in self._idle if has_ended(each.connection)]:
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

    def _begin(self) -> Process:
        """A new process; raises OSError, EOFError."""
        with self._starting:
            if self._first and has_ended(self._first[0].connection):
                end([], self._first)
            if not self._first:
                start_first(self._first)
            first = self._first[:1]
            if not first or self._is_closed:
                raise EOFError
            ours, theirs = socket.socketpair()
            try:
                with theirs:
                    socket.send_fds(first[0].connection, [b"."], [theirs.fileno()])
                ours.settimeout(_BEGIN_S)
                hello = receive(ours).fields
            except BaseException:
                ours.close()
                end([], self._first)  # it does not answer: the next one begins anew
                raise
        metrics.RENDERING_PROCESS_STARTS.add()
        if hello["unlimited"]:
            LOG.warning("rendering has no memory limit", reason=hello["unlimited"])
        return Process(ours)

    def _ask(
        self,
        process: Process,
        task: dict[str, Any],
        descriptor: int,
        state: str,
        spool: Callable[[int], BinaryIO],
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
        return Answer(answer.fields, body_of(process.connection, answer.length, spool))

    def _failure(self, error: Exception, took_s: float, process: Process | None) -> RenderingError:
        """What to say of a process that ended, or did not answer."""
        if isinstance(error, NoSpaceError):
            return RenderingError("disk", f"there is no room for it on the disk: {error}")
        if self._is_closed:  # which ended the process, and may have before it began
            return RenderingError("busy", _STOPPING)
        metrics.RENDERING_PROCESS_FAILURES.add()
        if process is None:
            LOG.error("cannot start a rendering process", reason=str(error))
            return RenderingError("process", "the rendering process cannot be started")
        if isinstance(error, TimeoutError):  # its own clock should have ended it
            with self._starting:
                end([], self._first)
        if took_s >= self._seconds:
            return RenderingError("time", f"it takes longer than {self._seconds:g} s")
        return RenderingError(
            "process", "the process that rendered it ended; perhaps it is damaged"
        )
