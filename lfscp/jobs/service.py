"""The jobs of a node: takes them, answers what is asked of them, and changes them for users.

Rules: a job is in the database before `submit` returns, and so is each change of its state.
Progress is saved every two seconds. A job that ran when the process ended runs again after
`start()`. `runs` runs them, and `sleeping` wakes those that wait.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy.exc import SQLAlchemyError

from lfscp.archive.node_id import node_id
from lfscp.dicom.values.attributes import Level
from lfscp.jobs.balancer import Balancer, TerminatedError
from lfscp.jobs.control import JobEnd, StopRequest
from lfscp.jobs.expiry import Expiry
from lfscp.jobs.feed import Feed, Subscription
from lfscp.jobs.file_sets.package import package
from lfscp.jobs.matches import each_match
from lfscp.jobs.model import (
    Job,
    JobKind,
    State,
    TooManyJobsError,
    WrongStateError,
    groups_of,
    is_result_apart,
    now,
)
from lfscp.jobs.request import JobRequest
from lfscp.jobs.roots import with_real_paths
from lfscp.jobs.runs import STOPPED, JobRuns, Perform
from lfscp.jobs.sleeping import SleepingJobs
from lfscp.jobs.store import JobStore
from lfscp.jobs.tasks.perform import perform
from lfscp.jobs.unfinished import UnfinishedJobs
from lfscp.observe.logging import get_logger

if TYPE_CHECKING:
    from lfscp.archive.archive import Archive
    from lfscp.config import Settings

LOG: Final = get_logger("lfscp.jobs")
MAX_UNFINISHED: Final = 20_000  # jobs; each is held in memory until it has ended
INTERRUPT_TIME_S: Final = 5.0  # for active jobs to notice that the node stops
ANEW: Final[dict[str, Any]] = {
    "state": State.SLEEPING,
    "reason": "",
    "failures": 0,
    "failed": 0,
    **dict.fromkeys(("ended_at", "next_attempt_at")),
}  # what changes in a job that runs again


class JobService:
    """The jobs of one node. Any thread may call any method.

    Args:
        archive: where retrieved objects go and sent studies come from; open.
        settings: of the node; `jobs` above all.
        perform: does the work of one job; tests give their own.

    Attributes:
        on_ended: called with each job that has ended; it must not wait, and not raise.
    """

    def __init__(self, archive: Archive, settings: Settings, *, perform: Perform = perform) -> None:
        self.on_ended: Callable[[Job], None] = lambda _job: None
        self._archive = archive
        self._settings = settings
        self._feed = Feed()
        self._store = self._make_store()
        self._unfinished = self._make_unfinished()
        self._sleeping = SleepingJobs(self._unfinished, self._store, self._wake)
        self._expiry = Expiry(archive, self._store, settings.jobs.keep_days)
        self._runs = JobRuns(
            archive,
            settings,
            self._unfinished,
            self._store,
            self._sleeping,
            self._expiry,
            perform,
            self._stop_sleeping,
            self._lost_by,
        )
        self._balancer: Balancer[str, JobEnd] = Balancer(
            self._runs.run,
            on_success=self._runs.ended,
            on_error=self._runs.failed,
            max_active=settings.jobs.max_active,
            groups=lambda job_id: groups_of(self._unfinished.in_memory(job_id)),
            max_per_group=settings.jobs.per_peer,
        )

    # --- what differs if several nodes share the index ---

    _lost_by: tuple[type[Exception], ...] = ()

    def _make_store(self) -> JobStore:
        return JobStore(self._archive.index, node_id(self._archive.data_dir))

    def _make_unfinished(self) -> UnfinishedJobs:
        return UnfinishedJobs(self._store, self._feed, on_ended=lambda job: self.on_ended(job))

    def _begin(self, job: Job) -> None:
        self._unfinished.hold([job])
        self._balancer.submit(job.id)

    def _wake(self, job_id: str) -> None:
        if job_id in self._unfinished:
            self._submit(job_id)

    # --- life ---

    def start(self) -> None:
        """Take up unfinished jobs: interrupted and sleeping ones run, paused ones stay paused."""
        self._expiry.forget()
        unfinished = (State.SLEEPING, State.ACTIVE, State.PAUSED)
        for job in self._store.jobs(unfinished, newest_first=False):
            if job.state is State.ACTIVE:
                job = replace(job, state=State.SLEEPING, reason="interrupted, runs again")
                self._store.save(job)
                LOG.info("job interrupted", job=job.id, kind=str(job.kind))
            self._unfinished.hold([job])
            if job.state is State.SLEEPING:
                self._sleeping.resume(job)

    def terminate(self, timeout_s: float | None = None) -> list[Job]:
        """Take no more jobs and wait for the active ones; sleeping ones stay for the next start.

        Args:
            timeout_s: how long active jobs may go on before they are interrupted.
        Returns:
            The unfinished jobs, which run again after the next start.
        """
        self._sleeping.stop()
        removed = self._balancer.remove_all()
        left = self._balancer.terminate(timeout_s)
        removed += self._balancer.remove_all()  # came while the first were removed
        for job_id in left:
            self._runs.request_stop(job_id, StopRequest.INTERRUPT)
        if left:
            self._balancer.terminate(INTERRUPT_TIME_S)
        self._feed.close()
        unfinished = [job for job in self._unfinished.held() if job.state is not State.PAUSED]
        LOG.info("jobs terminated", left=len(unfinished))
        return unfinished

    def renew(self, settings: Settings) -> None:
        """Take over settings that were read again, for the runs to come: logins for peers."""
        self._settings = self._runs.settings = settings
        self._expiry.keep_days = settings.jobs.keep_days

    # --- asking ---

    def job(self, job_id: str) -> Job:
        """One job as it is now.

        Raises:
            UnknownJobError: there is none.
        """
        return self._unfinished.job(job_id)

    def jobs(
        self, states: Iterable[State | str] | None = None, limit: int = 100, offset: int = 0
    ) -> list[Job]:
        """Jobs, the newest first; only those in `states` when given."""
        wanted = None if states is None else [State(state) for state in states]
        return self._unfinished.newest(wanted, limit, offset)

    def matches(self, job: Job) -> Iterator[Mapping[str, Any]]:
        """The matches of a query, one by one; none while it runs."""
        if isinstance(job.result, list):
            return iter(job.result)
        return each_match(self.result(job)) if is_result_apart(job) else iter(())

    def result(self, job: Job) -> Iterator[str]:
        """The result of a job as JSON, in pieces; see `is_result_apart`."""
        return self._store.result(job.id)

    def subscribe(self) -> Subscription:
        """News of all jobs from now on."""
        return self._feed.subscribe()

    def package(self, job_id: str, look: Callable[[], None] = lambda: None) -> Iterator[bytes]:
        """The studies of a collect or retrieve job as a ZIP with a DICOMDIR, piece by piece.

        Args:
            look: as `package` takes it.
        Raises:
            UnknownJobError: there is no such job.
            WrongStateError: it has no studies in the archive, or has not ended.
            PackageError: they have too many objects, or another ZIP is being made.
        """
        job = self.job(job_id)
        studies = job.result.get("studies") if isinstance(job.result, dict) else None
        if not job.state.is_end or not studies:
            raise WrongStateError(job, "be packed", "ended, with studies in its result")
        # They may have gone elsewhere by C-MOVE, never have come, or be deleted since.
        if not any(self._archive.select(Level.STUDY, {Level.STUDY: [each]}) for each in studies):
            raise WrongStateError(job, "be packed", "one whose studies are in the archive")
        return package(self._archive, studies, look=look)

    # --- changing ---

    def submit(self, request: JobRequest) -> Job:
        """Take a job; it starts at once, or sleeps until it is its turn.

        Raises:
            InvalidRequestError: it cannot be a job; names the field.
            TerminatedError: the node stops.
            TooManyJobsError: too many have not ended.
        """
        own_title = self._settings.server.ae_title
        request.check(own_title)
        parameters = with_real_paths(request.parameters, self._settings.web.roots, own_title)
        if self._balancer.is_terminated:
            raise TerminatedError("no more jobs are taken, the node stops")
        if len(self._unfinished) >= MAX_UNFINISHED:
            raise TooManyJobsError(MAX_UNFINISHED)
        job = Job(
            id=uuid.uuid4().hex,
            kind=JobKind(request.kind),
            peers=request.peers,
            parameters=parameters,
            created_at=now(),
        )
        self._store.add(job)
        self._feed.publish(job)
        self._begin(job)
        return job

    def counts(self) -> dict[tuple[str, str], int]:
        """How many jobs there are by kind and state, ended ones included while they are kept."""
        return self._store.counts()

    def cancel(self, job_id: str) -> Job:
        """End a job: a sleeping or paused one at once, an active one as soon as it notices.

        Raises:
            UnknownJobError, WrongStateError: there is none, or it has ended.
        """
        return self._stop(job_id, StopRequest.CANCEL, (State.SLEEPING, State.ACTIVE, State.PAUSED))

    def pause(self, job_id: str) -> Job:
        """Let a job rest until `resume`; an active one stops as soon as it notices.

        Raises:
            UnknownJobError, WrongStateError: there is none, or it neither sleeps nor runs.
        """
        return self._stop(job_id, StopRequest.PAUSE, (State.SLEEPING, State.ACTIVE))

    def resume(self, job_id: str) -> Job:
        """Let a paused job run again, where it was.

        Raises:
            UnknownJobError, WrongStateError: there is none, or it is not paused.
        """
        return self._again(job_id, "be resumed", (State.PAUSED,))

    def retry(self, job_id: str) -> Job:
        """Run a failed or cancelled job again, or one that waits for its next attempt at once.

        Raises:
            UnknownJobError, WrongStateError: there is none, or it is in another state.
        """
        with self._unfinished.changing:
            job = self.job(job_id)
            if job.state is State.SLEEPING and self._sleeping.cancel(job_id):
                job = self._change_or_wake(job, next_attempt_at=None, reason="")
                self._submit(job_id)
                return job
        return self._again(job_id, "be tried again", (State.FAILED, State.CANCELLED))

    def forget(self, job_id: str) -> None:
        """Drop an ended or paused job and its result; the objects that it stored stay.

        Raises:
            UnknownJobError, WrongStateError: there is none, or it has not ended.
        """
        with self._unfinished.changing:
            job = self.job(job_id)
            if not (job.state.is_end or job.state is State.PAUSED):
                raise WrongStateError(job, "be forgotten", "ended or paused; cancel it first")
            self._store.forget(job_id)
            self._unfinished.let_go(job_id)

    def _stop(self, job_id: str, request: StopRequest, states: tuple[State, ...]) -> Job:
        with self._unfinished.changing:
            job = self.job(job_id)
            state, reason = STOPPED[request]
            require_state(job, f"be {state}", states)
            if self._runs.request_stop(job_id, request):
                return job
            waits = self._sleeping.cancel(job_id)
            if self._balancer.remove(job_id) or waits or job.state is State.PAUSED:
                return self._change_or_wake(job, state=state, reason=reason, next_attempt_at=None)
            self._runs.request_early_stop(job_id, request)
            return self.job(job_id)

    def _change_or_wake(self, job: Job, **changes: Any) -> Job:
        """Change a job that nobody would wake any more; if the index is away it goes on as it was.

        Raises:
            SQLAlchemyError: the index is away.
        """
        try:
            return self._unfinished.change(job.id, **changes)
        except SQLAlchemyError:
            if job.state is not State.PAUSED:
                self._sleeping.resume(job)
            raise

    def _stop_sleeping(self, job_id: str, request: StopRequest) -> None:
        self._stop(job_id, request, (State.SLEEPING,))

    def _again(self, job_id: str, action: str, states: tuple[State, ...]) -> Job:
        with self._unfinished.changing:
            job = self.job(job_id)
            require_state(job, action, states)
            self._unfinished.hold([job])
            try:
                again = self._unfinished.change(job_id, **ANEW)
            except SQLAlchemyError:  # the index is away
                if job.state.is_end:
                    self._unfinished.let_go(job_id)
                raise
        self._submit(job_id)
        return again

    def _submit(self, job_id: str) -> None:
        try:
            self._balancer.submit(job_id)
        except (TerminatedError, ValueError):
            return  # it stays asleep for the next start, or is on its way already


def require_state(job: Job, action: str, states: tuple[State, ...]) -> None:
    """Raise WrongStateError if a job is in none of these states."""
    if job.state not in states:
        raise WrongStateError(job, action, " or ".join(states))
