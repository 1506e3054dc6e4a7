"""The jobs that have not ended: changes a job in memory and in the database, and publishes it.

Rule: a change is in the database before anybody sees it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterable
from dataclasses import replace
from typing import Any

from lfscp.jobs.control import Progress
from lfscp.jobs.feed import Feed
from lfscp.jobs.matches import EncodedJSON
from lfscp.jobs.model import Job, State, UnknownJobError, now
from lfscp.jobs.store import JobStore


def _has_not_ended(job: Job) -> bool:
    return not job.state.is_end


class UnfinishedJobs:
    """The jobs that a node holds in memory. Any thread may call any method.

    Args:
        store: where all jobs are.
        feed: is told of each change.
        on_ended: called with each job that has ended.
        is_held: whether a job stays in memory.
        on_let_go: called when a job has left memory.

    Attributes:
        changing: held while a job's state changes, in memory and in the database.
    """

    def __init__(
        self,
        store: JobStore,
        feed: Feed,
        *,
        on_ended: Callable[[Job], None],
        is_held: Callable[[Job], bool] = _has_not_ended,
        on_let_go: Callable[[], None] = lambda: None,
    ) -> None:
        self.changing = threading.RLock()
        self._store = store
        self._feed = feed
        self._on_ended = on_ended
        self._is_held = is_held
        self._on_let_go = on_let_go
        self._lock = threading.Lock()  # guards the table alone, and is never held during a write
        self._jobs: dict[str, Job] = {}

    def __len__(self) -> int:
        return len(self._jobs)

    def __contains__(self, job_id: str) -> bool:
        return job_id in self._jobs

    def held(self) -> list[Job]:
        """The jobs in memory, in the order in which they came."""
        with self._lock:
            return list(self._jobs.values())

    def hold(self, jobs: Iterable[Job]) -> None:
        """Take jobs that are in the database into memory."""
        with self._lock:
            self._jobs.update({job.id: job for job in jobs})

    def let_go(self, job_id: str) -> None:
        """Take a job out of memory, if it is there."""
        with self._lock:
            self._jobs.pop(job_id, None)
        self._on_let_go()

    def in_memory(self, job_id: str) -> Job | None:
        """A job, if it is in memory."""
        return self._jobs.get(job_id)

    def job(self, job_id: str) -> Job:
        """One job as it is now, also one that has ended.

        Raises:
            UnknownJobError: there is none.
        """
        found = self._jobs.get(job_id) or self._store.get(job_id)
        if found is None:
            raise UnknownJobError(job_id)
        return found

    def newest(self, states: Iterable[State] | None, limit: int, offset: int) -> list[Job]:
        """Jobs, the newest first; only those in `states` when given."""
        found = self._store.jobs(states, limit=limit, offset=offset)
        with self._lock:  # where progress is newer than in the database
            return [self._jobs.get(job.id, job) for job in found]

    def count(self, job_id: str, progress: Progress) -> Job:
        """Change how far a job is, in memory alone."""
        with self._lock:
            job = self._jobs[job_id] = replace(
                self._jobs[job_id],
                done=progress.done,
                failed=progress.failed,
                left=progress.left,
                bytes=progress.bytes,
                rate_bytes_s=progress.rate_bytes_s,
            )
        return job

    def report(self, job_id: str, progress: Progress, items: list[str], *, save: bool) -> None:
        """Change how far a job is, and publish it.

        Args:
            items: what was done since the last save.
            save: whether to write it to the database.
        """
        job = self.count(job_id, progress)
        if save:
            self._store.save(job, items)
        self._feed.publish(job)

    def change(self, job_id: str, items: Collection[str] = (), **changes: Any) -> Job:
        """Change a job that has not ended, and note the items done.

        Args:
            items: what was done since the last save.
            changes: fields of `Job`.
        Raises:
            KeyError: the job is not in memory.
        """
        with self.changing:
            job = replace(self._jobs[job_id], **changes)
            if job.state.is_end:
                job = replace(job, ended_at=now())
            self._store.save(job, items)
            if isinstance(job.result, EncodedJSON):
                job = replace(job, result=None)  # the database has it, and memory need not
            if self._is_held(job):
                self.hold([job])
            else:
                self.let_go(job_id)
            self._feed.publish(job)
        if job.state.is_end:
            self._on_ended(job)
        return job
