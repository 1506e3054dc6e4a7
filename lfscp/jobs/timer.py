"""Wakes sleeping jobs at their times: one thread, which sleeps until the next job is due."""

from __future__ import annotations

import sched
import threading
from collections.abc import Callable
from contextlib import suppress


class JobTimer:
    """Wakes jobs at their times. Any thread may call any method.

    Args:
        wake: called with the job's id when its time has come, in the timer's thread.
    """

    def __init__(self, wake: Callable[[str], None]) -> None:
        self._wake = wake
        self._lock = threading.Lock()
        self._changed = threading.Event()
        self._scheduler = sched.scheduler()
        self._due: dict[str, object] = {}  # the job's latest entry in the scheduler
        self._thread: threading.Thread | None = None
        self._stopped = False

    def set(self, job_id: str, after_s: float) -> None:
        """Wake a job in so many seconds; this replaces any time set before."""
        with self._lock:
            if self._stopped:
                return
            entry = self._due[job_id] = object()
            self._scheduler.enter(after_s, 0, self._ring, (job_id, entry))
            if self._thread is None:
                self._thread = self._started()
        self._changed.set()

    def cancel(self, job_id: str) -> bool:
        """Do not wake a job; whether it had a time."""
        with self._lock:
            return self._due.pop(job_id, None) is not None

    def stop(self) -> None:
        """Wake no job any more."""
        with self._lock:
            self._stopped = True
            self._due.clear()
        self._changed.set()

    def _started(self) -> threading.Thread | None:
        """The timer's thread; None when none can be started, which the next `set` tries again."""
        thread = threading.Thread(target=self._run, name="lfscp-job-timer", daemon=True)
        with suppress(RuntimeError):
            thread.start()
            return thread
        return None

    def _run(self) -> None:
        while not self._stopped:
            left_s = self._scheduler.run(blocking=False)
            self._changed.wait(left_s)
            self._changed.clear()

    def _ring(self, job_id: str, entry: object) -> None:
        with self._lock:
            if self._due.get(job_id) is not entry:  # cancelled, or set anew
                return
            del self._due[job_id]
        self._wake(job_id)
