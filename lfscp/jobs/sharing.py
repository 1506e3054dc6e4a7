"""The job service of a node that shares its index with others: any of them runs a job.

Unlike on a node alone, a job waits in the database and not in a node's memory. A node claims a job
when it can run it at once, holds it by a lease while it runs, and gives it back at the end. A stop
request for a job that another node runs reaches that node when it renews its lease. One thread
renews and claims, every two seconds and whenever there is a reason to.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Hashable
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from sqlalchemy.exc import SQLAlchemyError

from lfscp.archive.index.database.database import reason_of
from lfscp.archive.node_id import node_id
from lfscp.jobs.claims import Claims, LostJobError
from lfscp.jobs.control import StopRequest
from lfscp.jobs.model import Job, State, groups_of, now
from lfscp.jobs.runs import LOG, STOPPED, Perform
from lfscp.jobs.service import ANEW, JobService, require_state
from lfscp.jobs.store import JobStore
from lfscp.jobs.tasks.perform import perform
from lfscp.jobs.unfinished import UnfinishedJobs

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

    _lost_by = (LostJobError, SQLAlchemyError)

    def __init__(self, archive: Archive, settings: Settings, *, perform: Perform = perform) -> None:
        self._look = threading.Event()
        self._stopping = False
        self._thread = threading.Thread(target=self._hold, name="lfscp-claims", daemon=True)
        super().__init__(archive, settings, perform=perform)

    def _make_store(self) -> JobStore:
        self._claims = Claims(
            self._archive.index,
            node_id(self._archive.data_dir),
            self._settings.server.ae_title,
            round(self._settings.jobs.lease_s * 1000),
        )
        return self._claims

    def _make_unfinished(self) -> UnfinishedJobs:
        return UnfinishedJobs(
            self._claims,
            self._feed,
            on_ended=lambda job: self.on_ended(job),
            is_held=lambda job: job.state is State.ACTIVE,
            on_let_go=self._look.set,  # there is room for another
        )

    def start(self) -> None:
        """Give back what this node still held after a crash, and begin to claim."""
        self._claims.release_all()
        self._expiry.forget()
        self._thread.start()

    def terminate(self, timeout_s: float | None = None) -> list[Job]:
        """Claim no more, wait for the active jobs, and give back what is left."""
        self._stopping = True
        self._look.set()
        if self._thread.is_alive():
            self._thread.join()
        held = [job.id for job in self._unfinished.held()]
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
        held = [job.id for job in self._unfinished.held()]
        if not held:
            return
        requests = self._claims.renew(held)
        for job_id in held:
            # Without a request, another node has it, or it has just ended.
            if request := requests.get(job_id, StopRequest.INTERRUPT):
                self._runs.request_stop(job_id, StopRequest(request))

    def _claim(self) -> None:
        jobs = self._settings.jobs
        with (
            self._unfinished.changing
        ):  # so that no request finds a job in the database but not in memory
            held = self._unfinished.held()
            room = jobs.max_active - len(held)
            if room <= 0 or self._stopping:
                return
            taken: Counter[Hashable] = Counter(group for job in held for group in groups_of(job))
            claimed = self._claims.claim(
                room, jobs.max_active_of_all, groups_of, taken, jobs.per_peer
            )
            self._unfinished.hold(claimed)
        for job in claimed:
            self._feed.publish(job)
            self._submit(job.id)

    # --- what differs from a node alone ---

    def _begin(self, job: Job) -> None:  # noqa: ARG002 - it waits in the database
        self._look.set()

    def _wake(self, job_id: str) -> None:  # noqa: ARG002 - whichever node it is that takes it
        self._look.set()

    def _stop(self, job_id: str, request: StopRequest, states: tuple[State, ...]) -> Job:
        state, reason = STOPPED[request]
        with self._unfinished.changing:
            if job_id in self._unfinished:
                try:
                    return super()._stop(job_id, request, states)
                except LostJobError as error:
                    self._runs.give_up(job_id, error)

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
