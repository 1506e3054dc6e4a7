"""Takes jobs, runs them by the balancer, stores them, tries them again, and publishes their news.

Rules: a job is in the database before `submit` returns, and so is each change of its state.
Progress is saved every two seconds. A job that ran when the process ended runs again after
`start()`. While a job is active, only the thread that runs it changes it; others ask it to stop
(cancel, pause), and the thread obeys.
"""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy.exc import SQLAlchemyError

from lfscp.archive.errors import ArchiveError
from lfscp.archive.index.database.database import reason_of
from lfscp.archive.node_id import node_id
from lfscp.archive.workflow.commitment.requests import CommitmentRequests
from lfscp.dicom.values.attributes import Level
from lfscp.jobs.balancer import Balancer, TerminatedError
from lfscp.jobs.control import (
    MAX_WORDS,
    Control,
    JobEnd,
    JobStoppedError,
    Progress,
    StopRequest,
    earlier_progress,
    shown,
)
from lfscp.jobs.feed import Feed, Subscription
from lfscp.jobs.matches import EncodedJSON, Matches, each_match
from lfscp.jobs.model import (
    MAX_DELAY_S,
    Job,
    JobKind,
    State,
    TooManyJobsError,
    UnknownJobError,
    WrongStateError,
    groups_of,
    is_result_apart,
    now,
    timestamp,
)
from lfscp.jobs.package import package
from lfscp.jobs.reasons import EXPECTED, for_log, for_user
from lfscp.jobs.request import InvalidRequestError, JobRequest
from lfscp.jobs.roots import allowed_folder, allowed_path
from lfscp.jobs.store import JobStore
from lfscp.jobs.tasks.perform import perform
from lfscp.jobs.timer import JobTimer
from lfscp.observe import metrics
from lfscp.observe.logging import get_logger
from lfscp.scu.errors import PeerError, TooManyMatchesError

if TYPE_CHECKING:
    from lfscp.archive.archive import Archive
    from lfscp.config import Settings

LOG: Final = get_logger("lfscp.jobs")
MAX_UNFINISHED: Final = 20_000  # jobs; each is held in memory until it has ended
INTERRUPT_TIME_S: Final = 5.0  # for active jobs to notice that the node stops
_FORGET_INTERVAL_S: Final = 600.0
WATCH_EVERY_S: Final = 2.0  # for jobs that another process has woken
_WATCH: Final = "woken jobs"  # what the timer of that calls it
_COUNTS: Final = ("done", "failed", "left", "bytes", "rate_bytes_s")
STOPPED: Final = {
    StopRequest.CANCEL: (State.CANCELLED, "cancelled"),
    StopRequest.PAUSE: (State.PAUSED, ""),
    StopRequest.INTERRUPT: (State.SLEEPING, "interrupted, runs again when the node does"),
}
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

    def __init__(
        self,
        archive: Archive,
        settings: Settings,
        *,
        perform: Callable[[Job, Control, Archive, Settings], JobEnd] = perform,
    ) -> None:
        self.on_ended: Callable[[Job], None] = lambda _job: None
        self._archive = archive
        self._settings = settings
        self._perform = perform
        self._store = JobStore(archive.index, node_id(archive.data_dir))
        self._feed = Feed()
        # Held while a job's state changes, in memory and in the database. `_lock` guards only the
        # tables below, and is never held during a write.
        self._changing = threading.RLock()
        self._lock = threading.Lock()
        self._jobs: dict[str, Job] = {}  # those that have not ended
        self._controls: dict[str, Control] = {}  # of those that run
        self._early: dict[str, StopRequest] = {}  # for those that are about to run
        self._timer = JobTimer(self._wake)
        self._watch = JobTimer(self._look_for_woken)
        self._forgot_at = float("-inf")
        self._balancer: Balancer[str, JobEnd] = Balancer(
            self._run,
            on_success=self._ended,
            on_error=self._failed,
            max_active=settings.jobs.max_active,
            groups=lambda job_id: groups_of(self._jobs.get(job_id)),
            max_per_group=settings.jobs.per_peer,
        )

    # --- life ---

    def start(self) -> None:
        """Take up unfinished jobs: interrupted and sleeping ones run, paused ones stay paused."""
        self._forget_old()
        unfinished = (State.SLEEPING, State.ACTIVE, State.PAUSED)
        for job in self._store.jobs(unfinished, newest_first=False):
            if job.state is State.ACTIVE:
                job = replace(job, state=State.SLEEPING, reason="interrupted, runs again")
                self._store.save(job)
                LOG.info("job interrupted", job=job.id, kind=str(job.kind))
            with self._lock:
                self._jobs[job.id] = job
            if job.state is State.SLEEPING:
                self._schedule(job)

    def terminate(self, timeout_s: float | None = None) -> list[Job]:
        """Take no more jobs and wait for the active ones; sleeping ones stay for the next start.

        Args:
            timeout_s: how long active jobs may go on before they are interrupted.
        Returns:
            The unfinished jobs, which run again after the next start.
        """
        self._timer.stop()
        self._watch.stop()
        removed = self._balancer.remove_all()
        left = self._balancer.terminate(timeout_s)
        removed += self._balancer.remove_all()  # came while the first were removed
        for job_id in left:
            with self._lock:
                control = self._controls.get(job_id)
            if control is not None:
                control.request_stop(StopRequest.INTERRUPT)
        if left:
            self._balancer.terminate(INTERRUPT_TIME_S)
        self._feed.close()
        with self._lock:
            unfinished = [job for job in self._jobs.values() if job.state is not State.PAUSED]
        LOG.info("jobs terminated", left=len(unfinished))
        return unfinished

    def renew(self, settings: Settings) -> None:
        """Take over settings that were read again, for the runs to come: logins for peers."""
        self._settings = settings

    # --- asking ---

    def job(self, job_id: str) -> Job:
        """One job as it is now.

        Raises:
            UnknownJobError: there is none.
        """
        with self._lock:
            found = self._jobs.get(job_id)
        found = found or self._store.get(job_id)
        if found is None:
            raise UnknownJobError(job_id)
        return found

    def jobs(
        self, states: Iterable[State | str] | None = None, limit: int = 100, offset: int = 0
    ) -> list[Job]:
        """Jobs, the newest first; only those in `states` when given."""
        wanted = None if states is None else [State(state) for state in states]
        found = self._store.jobs(wanted, limit=limit, offset=offset)
        with self._lock:  # where progress is newer than in the database
            return [self._jobs.get(job.id, job) for job in found]

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
        request.check(self._settings.server.ae_title)
        parameters = dict(request.parameters)
        self._make_real(parameters)
        if self._balancer.is_terminated:
            raise TerminatedError("no more jobs are taken, the node stops")
        if len(self._jobs) >= MAX_UNFINISHED:
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

    def _begin(self, job: Job) -> None:
        with self._lock:
            self._jobs[job.id] = job
        self._balancer.submit(job.id)

    def _make_real(self, parameters: dict[str, Any]) -> None:
        """Make the paths absolute, links followed.

        Raises:
            InvalidRequestError: one may not be used.
        """
        roots = self._settings.web.roots
        if parameters.get("paths"):
            parameters["paths"] = [
                str(allowed_path(path, roots, f"parameters.paths.{number}"))
                for number, path in enumerate(parameters["paths"])
            ]
        if parameters.get("folder"):
            folder = allowed_folder(parameters["folder"], roots, "parameters.folder")
            parameters["folder"] = str(folder)
            own_title = self._settings.server.ae_title
            if parameters.get("destination", own_title) != own_title:
                reason = "objects that go to another destination do not come here"
                raise InvalidRequestError("parameters.folder", reason)

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
        with self._changing:
            job = self.job(job_id)
            if job.state is State.SLEEPING and self._timer.cancel(job_id):
                job = self._change(job_id, next_attempt_at=None, reason="")
                self._submit(job_id)
                return job
        return self._again(job_id, "be tried again", (State.FAILED, State.CANCELLED))

    def forget(self, job_id: str) -> None:
        """Drop an ended or paused job and its result; the objects that it stored stay.

        Raises:
            UnknownJobError, WrongStateError: there is none, or it has not ended.
        """
        with self._changing:
            job = self.job(job_id)
            if not (job.state.is_end or job.state is State.PAUSED):
                raise WrongStateError(job, "be forgotten", "ended or paused; cancel it first")
            with self._lock:
                self._jobs.pop(job_id, None)
            self._store.forget(job_id)

    def _stop(self, job_id: str, request: StopRequest, states: tuple[State, ...]) -> Job:
        with self._changing:
            job = self.job(job_id)
            state, reason = STOPPED[request]
            require_state(job, f"be {state}", states)
            with self._lock:
                control = self._controls.get(job_id)
            if control is not None:
                control.request_stop(request)
                return job
            waits = self._timer.cancel(job_id)
            if self._balancer.remove(job_id) or waits or job.state is State.PAUSED:
                return self._change(job_id, state=state, reason=reason, next_attempt_at=None)
            with self._lock:  # the balancer has just taken it, and its thread will see this
                self._early[job_id] = request
            return self.job(job_id)

    def _again(self, job_id: str, action: str, states: tuple[State, ...]) -> Job:
        with self._changing:
            job = self.job(job_id)
            require_state(job, action, states)
            with self._lock:
                self._jobs[job_id] = job
            job = self._change(job_id, **ANEW)
        self._submit(job_id)
        return job

    def _submit(self, job_id: str) -> None:
        try:
            self._balancer.submit(job_id)
        except (TerminatedError, ValueError):
            return  # it stays asleep for the next start, or is on its way already

    def _schedule(self, job: Job) -> None:
        if job.next_attempt_at is None:
            self._submit(job.id)
            return
        due = datetime.fromisoformat(job.next_attempt_at)
        # A clock that was set meanwhile makes no job wait for longer than any does.
        left_s = (due - datetime.now(UTC)).total_seconds()
        self._timer.set(job.id, min(max(0.0, left_s), MAX_DELAY_S))
        if job.is_committed_to:
            self._watch.set(_WATCH, WATCH_EVERY_S)

    def _wake(self, job_id: str) -> None:
        with self._lock:
            sleeps = job_id in self._jobs
        if sleeps:
            self._submit(job_id)

    def _look_for_woken(self, _watch: str) -> None:
        """Run the jobs whose report has come: whichever process took it has woken their rows."""
        with self._lock:
            waiting = [
                each.id
                for each in self._jobs.values()
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
            if job_id in woken and self._timer.cancel(job_id):
                self._submit(job_id)
        self._watch.set(_WATCH, WATCH_EVERY_S)

    # --- running: in the balancer's threads ---

    def _run(self, job_id: str) -> JobEnd:
        before = self.job(job_id)
        control = Control(
            lambda progress, items, save: self._progress(job_id, progress, items, save=save),
            self._store.items(job_id),
            is_woken=before.next_attempt_at is not None,
            earlier=earlier_progress(before),
        )
        with self._lock:
            self._controls[job_id] = control
            attempts = self._jobs[job_id].attempts + 1
            early = self._early.pop(job_id, None)
        if early is not None:
            control.request_stop(early)
        job = self._change(
            job_id,
            state=State.ACTIVE,
            started_at=now(),
            attempts=attempts,
            reason="",
            next_attempt_at=None,
        )
        control.check()
        LOG.info(
            "job started", job=job_id, kind=str(job.kind), peer=str(job.peer) if job.peers else ""
        )
        return self._perform(job, control, self._archive, self._settings)

    def _progress(self, job_id: str, progress: Progress, items: list[str], *, save: bool) -> None:
        with self._lock:
            job = self._jobs[job_id] = _with(self._jobs[job_id], progress)
        if save:
            self._store.save(job, items)
        self._feed.publish(job)

    def _ended(self, job_id: str, end: JobEnd) -> None:
        if end.state is State.SLEEPING:
            self._sleep(job_id, end)
        else:
            reasons = {"reason": end.reason, "logged": end.logged}
            self._end(job_id, end.state, result=end.result, **reasons)

    def _sleep(self, job_id: str, end: JobEnd) -> None:
        """Let a job sleep until its time, or until the index wakes it."""
        due = timestamp(datetime.now(UTC) + timedelta(seconds=end.sleep_s))
        self._timer.set(job_id, end.sleep_s)  # first, as for another attempt
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
        self._watch.set(_WATCH, WATCH_EVERY_S)

    def _failed(self, job_id: str, error: Exception) -> None:
        with self._lock:
            job = self._jobs[job_id]
            request = self._controls[job_id].stop_request
        default = 0 if job.kind in (JobKind.ECHO, JobKind.FIND) else self._settings.jobs.retries
        retries = int(job.parameters.get("retries", default))
        if request is not None and isinstance(error, JobStoppedError | PeerError):
            state, reason = STOPPED[request]
            self._end(job_id, state, reason=reason)
        elif isinstance(error, PeerError) and error.passing and job.failures < retries:
            self._retry_later(job, str(error))
        else:
            if isinstance(error, TooManyMatchesError):
                metrics.JOBS_OVER_BUDGET.add()
            if not isinstance(error, EXPECTED):
                LOG.error("job failed unexpectedly", job=job_id, exc_info=error)
            self._end(job_id, State.FAILED, reason=for_user(error), logged=for_log(error))

    def _retry_later(self, job: Job, reason: str) -> None:
        delay_s = min(self._settings.jobs.retry_delay_s * 2.0**job.failures, MAX_DELAY_S)
        due = timestamp(datetime.now(UTC) + timedelta(seconds=delay_s))
        # The timer first: a user who sees the next attempt can hurry or cancel it. If the timer
        # wakes the job at once, it sleeps in the balancer until this run has ended.
        self._timer.set(job.id, delay_s)
        self._end(
            job.id,
            State.SLEEPING,
            logged="the peer is down",
            reason=f"{reason}; next attempt in {delay_s:g} s",
            failures=job.failures + 1,
            next_attempt_at=due,
        )

    def _end(self, job_id: str, state: State, *, logged: str = "", **changes: Any) -> None:
        """End one run, and the job if `state` is an end.

        `logged` is the reason without the words of peers and files, which could name a patient.
        """
        with self._changing:
            with self._lock:
                control = self._controls.pop(job_id)
                control.measure_rate()
                if changes.get("result") is None:
                    problems = control.progress.problems
                    found = {"problems": problems} if problems else None
                    changes["result"] = control.result or found
                self._jobs[job_id] = _with(self._jobs[job_id], control.counters)
            matches = changes["result"]
            if isinstance(matches, Matches):
                changes["result"] = matches.result() if state.is_end else None
                matches.close()
            changes["reason"] = shown(changes.get("reason", ""), MAX_WORDS)
            job = self._change(job_id, control.take_items(), state=state, **changes)
            if state is State.SLEEPING and control.stop_request in (
                StopRequest.CANCEL,
                StopRequest.PAUSE,
            ):
                # The request came after the run had failed: there is no next attempt.
                job = self._stop(job_id, control.stop_request, (State.SLEEPING,))
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
        if time.monotonic() - self._forgot_at > _FORGET_INTERVAL_S:
            self._forget_old()

    def _change(self, job_id: str, items: Collection[str] = (), **changes: Any) -> Job:
        """Change a job that has not ended, and note the items done; an ended job leaves memory."""
        with self._changing:
            with self._lock:
                job = replace(self._jobs[job_id], **changes)
                if job.state.is_end:
                    job = replace(job, ended_at=now())
            self._store.save(job, items)
            if isinstance(job.result, EncodedJSON):
                job = replace(job, result=None)  # the database has it, and memory need not
            with self._lock:
                if job.state.is_end:
                    del self._jobs[job_id]
                else:
                    self._jobs[job_id] = job
            self._feed.publish(job)
        if job.state.is_end:
            self.on_ended(job)
        return job

    def _forget_old(self) -> None:
        self._forgot_at = time.monotonic()
        now = datetime.fromtimestamp(self._archive.trusted_ms() / 1000, UTC)
        oldest = now - timedelta(days=self._settings.jobs.keep_days)
        self._store.forget_ended_before(timestamp(oldest))
        CommitmentRequests(self._archive.index).forget_before(round(oldest.timestamp() * 1000))


def require_state(job: Job, action: str, states: tuple[State, ...]) -> None:
    """Raise WrongStateError if a job is in none of these states."""
    if job.state not in states:
        raise WrongStateError(job, action, " or ".join(states))


def _with(job: Job, progress: Progress) -> Job:
    return replace(job, **{name: getattr(progress, name) for name in _COUNTS})
