"""Runs jobs in the balancer's threads: begins each, passes on its progress, and ends it.

Rule: while a job runs, only its thread changes it. Others ask it to stop, and the thread obeys.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy.exc import SQLAlchemyError

from lfscp.archive.errors import ArchiveError
from lfscp.archive.index.database.database import reason_of
from lfscp.archive.workflow.commitment.requests import CommitmentRequests
from lfscp.jobs.control import (
    MAX_WORDS,
    Control,
    JobEnd,
    JobStoppedError,
    StopRequest,
    earlier_progress,
    shown,
)
from lfscp.jobs.expiry import Expiry
from lfscp.jobs.matches import Matches
from lfscp.jobs.model import MAX_DELAY_S, Job, JobKind, State, now, timestamp
from lfscp.jobs.reasons import EXPECTED, for_log, for_user
from lfscp.jobs.sleeping import SleepingJobs
from lfscp.jobs.store import JobStore
from lfscp.jobs.unfinished import UnfinishedJobs
from lfscp.observe import metrics
from lfscp.observe.logging import get_logger
from lfscp.scu.errors import PeerError, TooManyMatchesError

if TYPE_CHECKING:
    from lfscp.archive.archive import Archive
    from lfscp.config import Settings

LOG: Final = get_logger("lfscp.jobs")
STOPPED: Final = {
    StopRequest.CANCEL: (State.CANCELLED, "cancelled"),
    StopRequest.PAUSE: (State.PAUSED, ""),
    StopRequest.INTERRUPT: (State.SLEEPING, "interrupted, runs again when the node does"),
}
Perform = Callable[[Job, Control, "Archive", "Settings"], JobEnd]


class JobRuns:
    """The runs of jobs. The balancer calls `run`, and then `ended` or `failed`.

    Args:
        archive: where retrieved objects go and sent studies come from.
        settings: of the node; replaced when they were read again.
        unfinished, store, sleeping: the jobs.
        expiry: is asked after each run whether it is time to forget.
        perform: does the work of one job.
        stop_sleeping: stops a job whose run failed before it saw the request to stop.
        lost_by: errors that say that the job is not ours any more; it is only let go.
    """

    def __init__(
        self,
        archive: Archive,
        settings: Settings,
        unfinished: UnfinishedJobs,
        store: JobStore,
        sleeping: SleepingJobs,
        expiry: Expiry,
        perform: Perform,
        stop_sleeping: Callable[[str, StopRequest], None],
        lost_by: tuple[type[Exception], ...] = (),
    ) -> None:
        self.settings = settings
        self._archive = archive
        self._unfinished = unfinished
        self._store = store
        self._sleeping = sleeping
        self._expiry = expiry
        self._perform = perform
        self._stop_sleeping = stop_sleeping
        self._lost_by = lost_by
        self._lock = threading.Lock()  # guards these three
        self._controls: dict[str, Control] = {}  # of the jobs that run
        self._early: dict[str, StopRequest] = {}  # for jobs that are about to run
        self._unstored: Counter[str] = Counter()  # how often a job's state could not be stored

    # --- asked by other threads ---

    def request_stop(self, job_id: str, request: StopRequest) -> bool:
        """Ask a job to stop; False if it does not run."""
        with self._lock:
            control = self._controls.get(job_id)
        if control is not None:
            control.request_stop(request)
        return control is not None

    def request_early_stop(self, job_id: str, request: StopRequest) -> None:
        """Ask a job to stop that the balancer has just taken: it runs, or is about to."""
        with self._lock:
            control = self._controls.get(job_id)
            if control is None:
                self._early[job_id] = request
        if control is not None:
            control.request_stop(request)

    def give_up(self, job_id: str, error: Exception) -> None:
        """Let go of a job that another node has, or gets when the lease ends."""
        with self._lock:
            self._controls.pop(job_id, None)
        reason = reason_of(error) if isinstance(error, SQLAlchemyError) else "another node has it"
        LOG.warning("job given up", job=job_id, reason=reason)
        self._unfinished.let_go(job_id)

    # --- called by the balancer ---

    def run(self, job_id: str) -> JobEnd:
        """Do the work of a job; an error is how it ends, too."""
        before = self._unfinished.job(job_id)
        control = Control(
            lambda progress, items, save: self._unfinished.report(
                job_id, progress, items, save=save
            ),
            self._store.items(job_id),
            is_woken=before.next_attempt_at is not None,
            earlier=earlier_progress(before),
        )
        self._begin(job_id, control)
        job = self._unfinished.change(
            job_id,
            state=State.ACTIVE,
            started_at=now(),
            attempts=before.attempts + 1,
            reason="",
            next_attempt_at=None,
        )
        control.check()
        LOG.info(
            "job started", job=job_id, kind=str(job.kind), peer=str(job.peer) if job.peers else ""
        )
        return self._perform(job, control, self._archive, self.settings)

    def _begin(self, job_id: str, control: Control) -> None:
        with self._lock:
            self._controls[job_id] = control
            early = self._early.pop(job_id, None)
        if early is not None:
            control.request_stop(early)

    def ended(self, job_id: str, end: JobEnd) -> None:
        """Store how a run ended that raised no error."""
        if end.state is State.SLEEPING:
            self._sleep(job_id, end)
        else:
            self._end(job_id, end.state, result=end.result, reason=end.reason, logged=end.logged)

    def failed(self, job_id: str, error: Exception) -> None:
        """Store how a run failed, or when it is tried again."""
        if isinstance(error, self._lost_by):
            self.give_up(job_id, error)
            return
        job = self._unfinished.job(job_id)
        with self._lock:
            control = self._controls.get(job_id)
        request = None if control is None else control.stop_request
        if isinstance(error, SQLAlchemyError) and job.state is State.SLEEPING:
            self._begin_later(job_id, error)  # it never ran
        elif request is not None and isinstance(error, JobStoppedError | PeerError):
            state, reason = STOPPED[request]
            self._end(job_id, state, reason=reason)
        elif isinstance(error, PeerError) and error.passing and job.failures < self._retries(job):
            self._retry_later(job, str(error))
        else:
            if isinstance(error, TooManyMatchesError):
                metrics.JOBS_OVER_BUDGET.add()
            if not isinstance(error, EXPECTED):
                LOG.error("job failed unexpectedly", job=job_id, exc_info=error)
            self._end(job_id, State.FAILED, reason=for_user(error), logged=for_log(error))

    def _retries(self, job: Job) -> int:
        default = 0 if job.kind in (JobKind.ECHO, JobKind.FIND) else self.settings.jobs.retries
        return int(job.parameters.get("retries", default))

    # --- how a run ends ---

    def _sleep(self, job_id: str, end: JobEnd) -> None:
        """Let a job sleep until its time, or until the index wakes it."""
        due = timestamp(datetime.now(UTC) + timedelta(seconds=end.sleep_s))
        self._sleeping.set(job_id, end.sleep_s)  # first, as for another attempt
        self._end(
            job_id,
            State.SLEEPING,
            logged="goes on later",
            reason=end.reason,
            failures=0,
            next_attempt_at=due,
        )
        try:
            # What has come while it ran could not wake it.
            CommitmentRequests(self._archive.index).wake(job_id)
        except ArchiveError as error:
            LOG.warning("job sleeps for its whole time", job=job_id, reason=error.reason)
        self._sleeping.watch()

    def _retry_later(self, job: Job, reason: str) -> None:
        delay_s = self._delay_s(job.failures)
        due = timestamp(datetime.now(UTC) + timedelta(seconds=delay_s))
        # The timer first: a user who sees the next attempt can hurry or cancel it. If the timer
        # wakes the job at once, it sleeps in the balancer until this run has ended.
        self._sleeping.set(job.id, delay_s)
        self._end(
            job.id,
            State.SLEEPING,
            logged="the peer is down",
            reason=f"{reason}; next attempt in {delay_s:g} s",
            failures=job.failures + 1,
            next_attempt_at=due,
        )

    def _begin_later(self, job_id: str, error: SQLAlchemyError) -> None:
        """Run a job again whose state could not be stored; nobody else would wake it."""
        with self._lock:
            control = self._controls.pop(job_id, None)
            if control is not None and control.stop_request is not None:
                self._early[job_id] = control.stop_request
            self._unstored[job_id] += 1
            delay_s = self._delay_s(self._unstored[job_id] - 1)
        LOG.warning("job waits for the index", job=job_id, reason=reason_of(error))
        self._sleeping.set(job_id, delay_s)

    def _delay_s(self, failures: int) -> float:
        return min(self.settings.jobs.retry_delay_s * 2.0 ** min(failures, 64), MAX_DELAY_S)

    def _end(self, job_id: str, state: State, *, logged: str = "", **changes: Any) -> None:
        """End one run, and the job if `state` is an end.

        `logged` is the reason without the words of peers and files, which could name a patient.
        """
        try:
            job = self._ended_job(job_id, state, changes)
        except self._lost_by as error:
            self.give_up(job_id, error)
            return
        except SQLAlchemyError as error:
            self._begin_later(job_id, error)
            return
        self._unstored.pop(job_id, None)
        LOG.info(
            "job ended",
            job=job_id,
            kind=str(job.kind),
            state=str(job.state),
            done=job.done,
            failed=job.failed,
            bytes=job.bytes,
            reason=logged,
        )
        self._expiry.forget_if_due()

    def _ended_job(self, job_id: str, state: State, changes: dict[str, Any]) -> Job:
        with self._unfinished.changing:
            items, request = self._take_results(job_id, changes)
            matches = changes.get("result")
            if isinstance(matches, Matches):
                changes["result"] = matches.result() if state.is_end else None
                matches.close()
            changes["reason"] = shown(changes.get("reason", ""), MAX_WORDS)
            job = self._unfinished.change(job_id, items, state=state, **changes)
            if state is State.SLEEPING and request in (StopRequest.CANCEL, StopRequest.PAUSE):
                # The request came after the run had failed: there is no next attempt.
                self._stop_sleeping(job_id, request)
                job = self._unfinished.job(job_id)
        return job

    def _take_results(
        self, job_id: str, changes: dict[str, Any]
    ) -> tuple[list[str], StopRequest | None]:
        """What a run has to show, added to `changes`: the items done, and the request to stop."""
        with self._lock:
            control = self._controls.pop(job_id, None)
            early = self._early.pop(job_id, None)
        if control is None:  # it did not begin, as when no thread can be started
            return [], early
        control.measure_rate()
        if changes.get("result") is None:
            problems = control.progress.problems
            changes["result"] = control.result or ({"problems": problems} if problems else None)
        self._unfinished.count(job_id, control.counters)
        return control.take_items(), control.stop_request
