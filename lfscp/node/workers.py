"""Worker processes that share a listening socket: forked, watched, restarted, told to end.

The parent forks before any thread exists, then sleeps in `sigtimedwait` until a child ends, a
signal comes or a restart is due; it serves nobody itself. A worker that dies is replaced, later
each time it dies young. Signals to end are passed on to every worker; a second one makes them
abort. When the parent is killed the kernel tells the workers, and they drain.

What it does not do: it knows nothing of sockets or DICOM; `work` does.
"""

from __future__ import annotations

import ctypes
import gc
import logging
import os
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from lfscp.node.signals import HANDED_OVER

LOGGER = logging.getLogger(__name__)

_PR_SET_PDEATHSIG: Final = 1
_FIRST_DELAY_S: Final = 0.1
_MAX_DELAY_S: Final = 10.0
_STEADY_AFTER_S: Final = 30.0  # a worker that lived so long is replaced without delay
_ENDING: Final = (signal.SIGTERM, signal.SIGINT, HANDED_OVER)
_PASSED_ON: Final = (signal.SIGHUP, signal.SIGUSR2)
_WATCHED: Final = frozenset((signal.SIGCHLD, *_ENDING, *_PASSED_ON))


@dataclass(slots=True)
class _Worker:
    number: int
    pid: int = 0
    started_at: float = 0.0
    delay_s: float = 0.0
    due_at: float | None = None  # of its restart


class Workers:
    """A fixed number of worker processes, kept alive until they are told to end.

    Args:
        count: how many, at least 1.
        work: called in each worker with its number, from 0, and with all signals that it may get
            blocked, which it unblocks when it can take them; returns the worker's exit code.
        kill_after_s: how long workers may take to end before they are killed.
        on_started: called in the parent when all workers have been forked.
        on_ending: called in the parent when they are about to be told to end, with the signal:
            HANDED_OVER is passed on as it is, the others as SIGTERM.
        on_signal: called in the parent with SIGHUP or SIGUSR2 before it is passed on; answers
            whether it is to be.
        on_tick: called in the parent about every `tick_s` seconds while they run.
    """

    def __init__(
        self,
        count: int,
        work: Callable[[int], int],
        *,
        kill_after_s: float,
        on_started: Callable[[], None] = lambda: None,
        on_ending: Callable[[int], None] = lambda _: None,
        on_signal: Callable[[int], bool] = lambda _: True,
        on_tick: Callable[[], None] = lambda: None,
        tick_s: float = 3600.0,
    ) -> None:
        if count < 1:
            raise ValueError(f"count: {count}; must be at least 1")
        self._workers = [_Worker(number) for number in range(count)]
        self._work = work
        self._kill_after_s = kill_after_s
        self._on_started = on_started
        self._on_ending = on_ending
        self._on_signal = on_signal
        self._on_tick = on_tick
        self._tick_s = tick_s
        self._parent = os.getpid()

    @property
    def pids(self) -> list[int]:
        """The process IDs of the workers that run."""
        return [worker.pid for worker in self._workers if worker.pid]

    def run(self) -> int:
        """Fork the workers and watch them until SIGTERM or SIGINT; the main thread stays in here.

        Returns:
            0 when every worker ended as told, else 1.
        """
        before = signal.pthread_sigmask(signal.SIG_BLOCK, _WATCHED)
        try:
            # What is loaded now is shared by all; the collector must not write into it.
            gc.collect()
            gc.freeze()
            for worker in self._workers:
                self._fork(worker)
            self._on_started()
            number = self._watch()
            self._on_ending(number)
            return self._end(HANDED_OVER if number == HANDED_OVER else signal.SIGTERM)
        finally:
            gc.unfreeze()
            signal.pthread_sigmask(signal.SIG_SETMASK, before)

    # --- a worker's life ---

    def _fork(self, worker: _Worker) -> None:
        worker.due_at = None
        worker.started_at = time.monotonic()
        sys.stdout.flush()
        sys.stderr.flush()
        worker.pid = os.fork()
        if worker.pid == 0:
            self._be_worker(worker.number)

    def _be_worker(self, number: int) -> None:
        """Run in the child; never returns."""
        code = 1
        try:
            ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
            if os.getppid() == self._parent:  # it may have died before the kernel was asked
                # Told to end, or to reload, before it has handlers it would die of the signal.
                signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGCHLD})
                code = self._work(number)
        except BaseException:
            LOGGER.critical("Worker %d failed", number, exc_info=True)
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)

    def _reap(self) -> list[tuple[_Worker, int]]:
        """The workers that have ended, with their exit codes; below 0 is the signal."""
        ended = []
        for worker in self._workers:
            if worker.pid:
                pid, status = os.waitpid(worker.pid, os.WNOHANG)
                if pid:
                    worker.pid = 0
                    ended.append((worker, os.waitstatus_to_exitcode(status)))
        return ended

    # --- the parent ---

    def _watch(self) -> int:
        """Replace workers that end, until told to stop; the signal that did."""
        next_tick = time.monotonic() + self._tick_s
        while True:
            due = [worker.due_at for worker in self._workers if worker.due_at is not None]
            timeout_s = max(0.0, min([*due, next_tick]) - time.monotonic())
            received = signal.sigtimedwait(_WATCHED, timeout_s)
            number = received.si_signo if received is not None else 0
            if number in _ENDING:
                return number
            if number in _PASSED_ON and self._on_signal(number):
                self._signal(number)
            for worker, code in self._reap():
                self._plan_restart(worker, code)
            now = time.monotonic()
            for worker in self._workers:
                if worker.due_at is not None and worker.due_at <= now:
                    self._fork(worker)
            if now >= next_tick:
                next_tick = now + self._tick_s
                self._on_tick()

    def _plan_restart(self, worker: _Worker, code: int) -> None:
        now = time.monotonic()
        if now - worker.started_at >= _STEADY_AFTER_S:
            worker.delay_s = 0.0
        else:
            worker.delay_s = min(max(2 * worker.delay_s, _FIRST_DELAY_S), _MAX_DELAY_S)
        worker.due_at = now + worker.delay_s
        how = f"signal {-code}" if code < 0 else f"exit code {code}"
        LOGGER.error(
            "Worker %d ended with %s; a new one starts in %.1f s",
            worker.number,
            how,
            worker.delay_s,
        )

    def _signal(self, number: int) -> None:
        for pid in self.pids:
            os.kill(pid, number)

    def _end(self, how: int) -> int:
        """Tell the workers to end, and wait; kill those that do not."""
        self._signal(how)
        deadline = time.monotonic() + self._kill_after_s
        failed = 0
        while True:
            failed += sum(code != 0 for _, code in self._reap())
            if not self.pids:
                return 1 if failed else 0
            left = deadline - time.monotonic()
            if left <= 0:
                LOGGER.error("Killing %d workers that did not end", len(self.pids))
                self._signal(signal.SIGKILL)
                for pid in self.pids:
                    os.waitpid(pid, 0)
                return 1
            received = signal.sigtimedwait(_WATCHED, left)
            if received is not None and received.si_signo in _ENDING:
                self._signal(signal.SIGTERM)
