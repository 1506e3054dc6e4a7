"""The job service of a node that shares its index with others: any of them runs a job.

Unlike on a node alone, a job waits in the database and not in a node's memory. A node claims a job
when it can run it at once, holds it by a lease while it runs, and gives it back at the end. A stop
request for a job that another node runs reaches that node when it renews its lease. One thread
renews and claims, every two seconds and whenever there is a reason to.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Collection, Hashable
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy.exc import SQLAlchemyError

from lfscp.archive.index.database.database import reason_of
from lfscp.archive.node_id import node_id
from lfscp.jobs.claims import Claims, LostJobError
from lfscp.jobs.control import Control, JobEnd, StopRequest
from lfscp.jobs.model import Job, State, groups_of, now
from lfscp.jobs.service import ANEW, LOG, STOPPED, JobService, require_state
from lfscp.jobs.tasks.perform import perform

if TYPE_CHECKING:
    from lfscp.archive.archive import Archive
    from lfscp.config import Settings

LOOK_EVERY_S: Final = 2.0
_LEAST_RENEWALS: Final = 3  # within a lease


def job_service(archive: Archive, settings: Settings) -> JobService:
    """The service for the jobs of a node, alone or one of several."""
    kind = SharedJobService if archive.index.is_shared else JobService
    return kind(archive, settings)


class SharedJobService(JobService):
    """The jobs of all nodes, of which this one runs what it has claimed."""

    def __init__(
        self,
        archive: Archive,
        settings: Settings,
        *,
        perform: Callable[[Job, Control, Archive, Settings], JobEnd] = perform,
    ) -> None:
        super().__init__(archive, settings, perform=perform)
        self._claims = self._store = Claims(
            archive.index,
            node_id(archive.data_dir),
            settings.server.ae_title,
            round(settings.jobs.lease_s * 1000),
        )
        self._look = threading.Event()
        self._stopping = False
        self._thread = threading.Thread(target=self._hold, name="lfscp-claims", daemon=True)

    def start(self) -> None:
        """Give back what this node still held after a crash, and begin to claim."""
        self._claims.release_all()
        self._forget_old()
        self._thread.start()

    def terminate(self, timeout_s: float | None = None) -> list[Job]:
        """Claim no more, wait for the active jobs, and give back what is left."""
        self._stopping = True
        self._look.set()
        if self._thread.is_alive():
            self._thread.join()
        with self._lock:
            held = list(self._jobs)
        super().terminate(timeout_s)
        left: list[Job] = []
        with suppress(SQLAlchemyError):  # else the leases end by themselves
            self._claims.release_all()
            left = [job for job in map(self._claims.get, held) if job is not None]
        return [job for job in left if job.state is State.SLEEPING]

    # --- claiming: in a thread of its own ---

    def _hold(self) -> None:
        lease_s = self._settings.jobs.lease_s
        while not self._stopping:
            try:
                self._renew()
                self._claim()
            except SQLAlchemyError as error:  # the index is away; what runs goes on meanwhile
                LOG.warning("jobs cannot be claimed", reason=reason_of(error))
            self._look.wait(min(LOOK_EVERY_S, lease_s / _LEAST_RENEWALS))
            self._look.clear()

    def _renew(self) -> None:
        with self._lock:
            held = list(self._jobs)
        if not held:
            return
        requests = self._claims.renew(held)
        for job_id in held:
            with self._lock:
                control = self._controls.get(job_id)
            if control is None:
                continue
            if job_id not in requests:  # another node has it, or it has just ended
                control.request_stop(StopRequest.INTERRUPT)
            elif requests[job_id]:
                control.request_stop(StopRequest(requests[job_id]))

    def _claim(self) -> None:
        jobs = self._settings.jobs
        with self._changing:  # so that no request finds a job in the database but not in memory
            with self._lock:
                held = list(self._jobs.values())
            room = jobs.max_active - len(held)
            if room <= 0 or self._stopping:
                return
            taken: Counter[Hashable] = Counter(group for job in held for group in groups_of(job))
            claimed = self._claims.claim(
                room, jobs.max_active_of_all, groups_of, taken, jobs.per_peer
            )
            with self._lock:
                self._jobs.update({job.id: job for job in claimed})
        for job in claimed:
            self._feed.publish(job)
            self._submit(job.id)

    # --- what differs from a node alone ---

    def _begin(self, job: Job) -> None:  # noqa: ARG002 - it waits in the database
        self._look.set()

    def _wake(self, job_id: str) -> None:  # noqa: ARG002 - whichever node it is that takes it
        self._look.set()

    def _change(self, job_id: str, items: Collection[str] = (), **changes: Any) -> Job:
        job = super()._change(job_id, items, **changes)
        if job.state is not State.ACTIVE:
            with self._lock:
                self._jobs.pop(job_id, None)
            self._look.set()  # there is room for another
        return job

    def _failed(self, job_id: str, error: Exception) -> None:
        if isinstance(error, LostJobError | SQLAlchemyError):
            self._drop(job_id, error)
        else:
            super()._failed(job_id, error)

    def _end(self, job_id: str, state: State, *, logged: str = "", **changes: Any) -> None:
        try:
            super()._end(job_id, state, logged=logged, **changes)
        except (LostJobError, SQLAlchemyError) as error:
            self._drop(job_id, error)

    def _drop(self, job_id: str, error: Exception) -> None:
        """Let go of a job that another node has, or gets when the lease ends."""
        with self._lock:
            self._jobs.pop(job_id, None)
            self._controls.pop(job_id, None)
        reason = "another node has it" if isinstance(error, LostJobError) else reason_of(error)
        LOG.warning("job given up", job=job_id, reason=reason)
        self._look.set()

    def _stop(self, job_id: str, request: StopRequest, states: tuple[State, ...]) -> Job:
        state, reason = STOPPED[request]
        with self._changing:
            if job_id in self._jobs:
                try:
                    return super()._stop(job_id, request, states)
                except LostJobError as error:
                    self._drop(job_id, error)

            def change(job: Job) -> Job:
                require_state(job, f"be {state}", states)
                ended_at = now() if state.is_end else None
                return replace(
                    job, state=state, reason=reason, ended_at=ended_at, next_attempt_at=None
                )

            return self._published(*self._claims.change_free(job_id, request, change))

    def retry(self, job_id: str) -> Job:
        """Run a failed or cancelled job again, or one that waits for its next attempt at once."""

        def change(job: Job) -> Job:
            if job.state is State.SLEEPING and job.next_attempt_at is not None:
                return replace(job, next_attempt_at=None, reason="")
            require_state(job, "be tried again", (State.FAILED, State.CANCELLED))
            return replace(job, **ANEW)

        return self._published(*self._claims.change_free(job_id, None, change))

    def _again(self, job_id: str, action: str, states: tuple[State, ...]) -> Job:
        def change(job: Job) -> Job:
            require_state(job, action, states)
            return replace(job, **ANEW)

        return self._published(*self._claims.change_free(job_id, None, change))

    def _published(self, job: Job, changed: bool) -> Job:
        if changed:
            self._feed.publish(job)
            self._look.set()
            if job.state.is_end:
                self.on_ended(job)
        return job
