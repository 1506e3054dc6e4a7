"""The job service of a node that shares its index with others: any of them runs a job.

What differs from a node alone: a job waits in the database and not in a node's memory; a node
takes it when it can run it at once, holds it by a lease while it runs, and gives it back then. A
wish for a job that another node runs reaches that node with the renewal of its lease. One thread
renews and claims, every two seconds and when there is a reason to.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Collection, Hashable
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy.exc import SQLAlchemyError

from lfscp.archive.index.database import reason_of
from lfscp.archive.node_id import node_id
from lfscp.jobs.claims import Claims, LostJobError
from lfscp.jobs.control import Control, Wish
from lfscp.jobs.model import Job, JobKind, State, WrongStateError, now
from lfscp.jobs.outcome import Ended
from lfscp.jobs.service import LOG, WISHED, JobService
from lfscp.jobs.tasks import perform

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
        perform: Callable[[Job, Control, Archive, Settings], Ended] = perform,
    ) -> None:
        super().__init__(archive, settings, perform=perform)
        self._claims = self._record = Claims(
            archive.index,
            node_id(archive.data_dir),
            settings.server.ae_title,
            round(settings.jobs.lease_s * 1000),
        )
        self._look = threading.Event()
        self._stopping = False
        self._thread = threading.Thread(target=self._hold, name="lfscp-claims", daemon=True)

    def start(self) -> None:
        """Give back what this node held when it ended without a word, and begin to claim."""
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
        wishes = self._claims.renew(held)
        for job_id in held:
            with self._lock:
                control = self._controls.get(job_id)
            if control is None:
                continue
            if job_id not in wishes:  # another node has it; or it has just ended
                control.wish_for(Wish.INTERRUPT)
            elif wishes[job_id]:
                control.wish_for(Wish(wishes[job_id]))

    def _claim(self) -> None:
        jobs = self._settings.jobs
        with self._changing:  # nobody is to look for a job between the record and the memory
            with self._lock:
                held = list(self._jobs.values())
            room = jobs.max_active - len(held)
            if room <= 0 or self._stopping:
                return
            taken = Counter(group for job in held for group in _peers(job))
            claimed = self._claims.claim(room, jobs.max_active_of_all, _peers, taken, jobs.per_peer)
            with self._lock:
                self._jobs.update({job.id: job for job in claimed})
        for job in claimed:
            self._feed.publish(job)
            self._submit(job.id)

    # --- what is otherwise than on a node alone ---

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
        """Let go of a job that is another node's by now, or will be when the lease ends."""
        with self._lock:
            self._jobs.pop(job_id, None)
            self._controls.pop(job_id, None)
        reason = "another node has it" if isinstance(error, LostJobError) else reason_of(error)
        LOG.warning("job given up", job=job_id, reason=reason)
        self._look.set()

    def _holds(self, job_id: str) -> bool:
        with self._lock:
            return job_id in self._jobs

    def _wish(self, job_id: str, wish: Wish, states: tuple[State, ...]) -> Job:
        with self._changing:
            if self._holds(job_id):
                try:
                    return super()._wish(job_id, wish, states)
                except LostJobError as error:
                    self._drop(job_id, error)

            def change(job: Job) -> Job:
                if job.state not in states:
                    what = "cancelled" if wish is Wish.CANCEL else f"{wish}d"
                    raise WrongStateError(job, f"be {what}", " or ".join(states))
                state, reason = WISHED[wish]
                ended_at = now() if state.is_end else None
                return replace(
                    job, state=state, reason=reason, ended_at=ended_at, next_attempt_at=None
                )

            return self._told(*self._claims.change_free(job_id, wish, change))

    def retry(self, job_id: str) -> Job:
        """Run a failed or cancelled job again, or one that waits for its next attempt at once."""

        def change(job: Job) -> Job:
            if job.state is State.SLEEPING and job.next_attempt_at is not None:
                return replace(job, next_attempt_at=None, reason="")
            return self._anew(job, "be tried again", (State.FAILED, State.CANCELLED))

        return self._told(*self._claims.change_free(job_id, None, change))

    def _again(self, job_id: str, what: str, states: tuple[State, ...]) -> Job:
        return self._told(
            *self._claims.change_free(job_id, None, lambda job: self._anew(job, what, states))
        )

    @staticmethod
    def _anew(job: Job, what: str, states: tuple[State, ...]) -> Job:
        if job.state not in states:
            raise WrongStateError(job, what, " or ".join(states))
        return replace(
            job,
            state=State.SLEEPING,
            reason="",
            ended_at=None,
            failures=0,
            next_attempt_at=None,
            failed=0,
        )

    def _told(self, job: Job, changed: bool) -> Job:
        if changed:
            self._feed.publish(job)
            self._look.set()
        return job


def _peers(job: Job) -> list[Hashable]:
    """The groups of a job, as the balancer knows them."""
    if job.kind is JobKind.COLLECT:
        return []
    return [(peer.ae_title, peer.host, peer.port) for peer in job.peers]
