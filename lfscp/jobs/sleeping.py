"""Wakes sleeping jobs: at their times, or as soon as the report that they wait for has come."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final

from sqlalchemy.exc import SQLAlchemyError

from lfscp.archive.index.database.database import reason_of
from lfscp.jobs.model import MAX_DELAY_S, Job, State
from lfscp.jobs.store import JobStore
from lfscp.jobs.timer import JobTimer
from lfscp.jobs.unfinished import UnfinishedJobs
from lfscp.observe.logging import get_logger

LOG: Final = get_logger("lfscp.jobs")
WATCH_EVERY_S: Final = 2.0  # for jobs that another process has woken
_WATCH: Final = "woken jobs"  # what the timer of that calls it


class SleepingJobs:
    """The jobs that wait for a time or for a report. Any thread may call any method.

    Args:
        unfinished: the jobs of the node.
        store: tells which jobs a report has woken.
        wake: called with the id of a job whose time has come; it must not wait.
    """

    def __init__(
        self, unfinished: UnfinishedJobs, store: JobStore, wake: Callable[[str], None]
    ) -> None:
        self._unfinished = unfinished
        self._store = store
        self._wake = wake
        self._timer = JobTimer(wake)
        self._watch = JobTimer(self._look_for_woken)

    def set(self, job_id: str, after_s: float) -> None:
        """Wake a job in so many seconds; this replaces any time set before."""
        self._timer.set(job_id, after_s)

    def cancel(self, job_id: str) -> bool:
        """Do not wake a job; whether it had a time."""
        return self._timer.cancel(job_id)

    def resume(self, job: Job) -> None:
        """Wake a job at the time that it has in the database; at once if it has none."""
        if job.next_attempt_at is None:
            self._wake(job.id)
            return
        due = datetime.fromisoformat(job.next_attempt_at)
        # A clock that was set meanwhile makes no job wait for longer than any does.
        left_s = (due - datetime.now(UTC)).total_seconds()
        self.set(job.id, min(max(0.0, left_s), MAX_DELAY_S))
        if job.is_committed_to:
            self.watch()

    def watch(self) -> None:
        """Look every two seconds for jobs whose report has come, while one waits for it."""
        self._watch.set(_WATCH, WATCH_EVERY_S)

    def stop(self) -> None:
        """Wake no job any more."""
        self._timer.stop()
        self._watch.stop()

    def _look_for_woken(self, _watch: str) -> None:
        """Wake the jobs whose report has come: whichever process took it has marked their rows."""
        waiting = [
            each.id
            for each in self._unfinished.held()
            if each.is_committed_to and each.state is State.SLEEPING and each.next_attempt_at
        ]
        if not waiting:
            return
        try:
            woken = self._store.woken()
        except SQLAlchemyError as error:  # the index is away; the next look may find it
            LOG.warning("jobs cannot be looked for", reason=reason_of(error))
            woken = set()
        for job_id in waiting:
            if job_id in woken and self.cancel(job_id):
                self._wake(job_id)
        self.watch()
