"""Jobs: taken, run by the balancer, recorded, tried again, and told about.

Rules: what was submitted is in the database before `submit` returns, and so is each change of a
job's state; progress is kept every two seconds. A job that ran when the process ended runs again
after `start()`. Only the thread that runs a job changes it while it is active; everybody else
wishes (cancel, pause) and the thread follows.
"""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from lfscp.archive.node_id import node_id
from lfscp.dicom.attributes import Level
from lfscp.errors import OperationError
from lfscp.jobs.balancer import Balancer, TerminatedError
from lfscp.jobs.control import MAX_WORDS, Control, JobStoppedError, Progress, Wish, shown
from lfscp.jobs.feed import Feed, Subscription
from lfscp.jobs.matches import EncodedJSON, Matches, each_match
from lfscp.jobs.model import (
    MAX_DELAY_S,
    InvalidRequestError,
    Job,
    JobKind,
    JobRequest,
    State,
    TooManyJobsError,
    UnknownJobError,
    WrongStateError,
    is_result_apart,
    now,
    timestamp,
)
from lfscp.jobs.outcome import Ended
from lfscp.jobs.package import package
from lfscp.jobs.roots import allowed_folder, allowed_path
from lfscp.jobs.store import Record
from lfscp.jobs.tasks import perform
from lfscp.jobs.timer import Alarm
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
_EXPECTED: Final = (
    OperationError,
    InvalidRequestError,
    OSError,
    PeerError,
)  # whose texts are for users
WISHED: Final = {
    Wish.CANCEL: (State.CANCELLED, "cancelled"),
    Wish.PAUSE: (State.PAUSED, ""),
    Wish.INTERRUPT: (State.SLEEPING, "interrupted, runs again when the node does"),
}


class JobService:
    """The jobs of one node. Any thread may call any method.

    Args:
        archive: where retrieved objects go and sent studies come from; open.
        settings: of the node; `jobs` above all.
        perform: does the work of one job; tests give their own.
    """

    def __init__(
        self,
        archive: Archive,
        settings: Settings,
        *,
        perform: Callable[[Job, Control, Archive, Settings], Ended] = perform,
    ) -> None:
        self._archive = archive
        self._settings = settings
        self._perform = perform
        self._record = Record(archive.index, node_id(archive.data_dir))
        self._feed = Feed()
        # Held while a job's state changes, in memory and in the record alike; `_lock` only guards
        # the tables below, and is never held while something is written.
        self._changing = threading.RLock()
        self._lock = threading.Lock()
        self._jobs: dict[str, Job] = {}  # those that have not ended
        self._controls: dict[str, Control] = {}  # of those that run
        self._early: dict[str, Wish] = {}  # for those that are about to run
        self._alarm = Alarm(self._wake)
        self._forgot_at = float("-inf")
        self._balancer: Balancer[str, Ended] = Balancer(
            self._run,
            on_success=self._succeeded,
            on_error=self._failed,
            max_active=settings.jobs.max_active,
            groups=self._peers_of,
            max_per_group=settings.jobs.per_peer,
        )

    # --- life ---

    def start(self) -> None:
        """Take up what was left: interrupted and sleeping jobs run, paused ones stay paused."""
        self._forget_old()
        unfinished = (State.SLEEPING, State.ACTIVE, State.PAUSED)
        for job in self._record.jobs(unfinished, newest_first=False):
            if job.state is State.ACTIVE:
                job = replace(job, state=State.SLEEPING, reason="interrupted, runs again")
                self._record.save(job)
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
            What was left: unfinished jobs, which run again after the next start.
        """
        self._alarm.stop()
        removed = self._balancer.remove_all()
        left = self._balancer.terminate(timeout_s)
        removed += self._balancer.remove_all()  # came while the first were removed
        for job_id in left:
            with self._lock:
                control = self._controls.get(job_id)
            if control is not None:
                control.wish_for(Wish.INTERRUPT)
        if left:
            self._balancer.terminate(INTERRUPT_TIME_S)
        self._feed.close()
        with self._lock:
            unfinished = [job for job in self._jobs.values() if job.state is not State.PAUSED]
        LOG.info("jobs terminated", left=len(unfinished))
        return unfinished

    # --- asking ---

    def job(self, job_id: str) -> Job:
        """One job as it is now.

        Raises:
            UnknownJobError: there is none.
        """
        with self._lock:
            found = self._jobs.get(job_id)
        found = found or self._record.get(job_id)
        if found is None:
            raise UnknownJobError(job_id)
        return found

    def jobs(
        self, states: Iterable[State | str] | None = None, limit: int = 100, offset: int = 0
    ) -> list[Job]:
        """Jobs, the newest first; only those in `states` when given."""
        wanted = None if states is None else [State(state) for state in states]
        found = self._record.jobs(wanted, limit=limit, offset=offset)
        with self._lock:  # whose progress is newer than the record
            return [self._jobs.get(job.id, job) for job in found]

    def matches(self, job: Job) -> Iterator[Mapping[str, Any]]:
        """What a query found, match by match; nothing while it runs.

        Args:
            job: as it is now.
        """
        if isinstance(job.result, list):
            return iter(job.result)
        return each_match(self.result(job)) if is_result_apart(job) else iter(())

    def result(self, job: Job) -> Iterator[str]:
        """The result of a job as JSON, in pieces; see `is_result_apart`."""
        return self._record.result(job.id)

    def subscribe(self) -> Subscription:
        """News of all jobs from now on."""
        return self._feed.subscribe()

    def package(self, job_id: str) -> Iterator[bytes]:
        """The studies of a collect or retrieve job as a ZIP with a DICOMDIR, piece by piece.

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
        return package(self._archive, studies)

    # --- wishes ---

    def submit(self, request: JobRequest) -> Job:
        """Take a job; it starts at once, or sleeps until it is its turn.

        Raises:
            InvalidRequestError: it cannot be a job; names the field.
            TerminatedError: the node stops.
            TooManyJobsError: too many have not ended.
        """
        request.check()
        parameters = dict(request.parameters)
        self._make_real(parameters)
        if self._balancer.is_terminated:
            raise TerminatedError("no more jobs are taken, the node stops")
        if self._unfinished() >= MAX_UNFINISHED:
            raise TooManyJobsError(MAX_UNFINISHED)
        job = Job(
            id=uuid.uuid4().hex,
            kind=JobKind(request.kind),
            peers=request.peers,
            parameters=parameters,
            created_at=now(),
        )
        self._record.add(job)
        self._feed.publish(job)
        self._begin(job)
        return job

    def _unfinished(self) -> int:
        with self._lock:
            return len(self._jobs)

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
        """How many jobs there are, ended ones too while they are kept, by kind and state."""
        return self._record.counts()

    def cancel(self, job_id: str) -> Job:
        """End a job: a sleeping or paused one at once, an active one as soon as it notices.

        Raises:
            UnknownJobError, WrongStateError: there is none, or it has ended.
        """
        return self._wish(job_id, Wish.CANCEL, (State.SLEEPING, State.ACTIVE, State.PAUSED))

    def pause(self, job_id: str) -> Job:
        """Let a job rest until `resume`; an active one stops as soon as it notices.

        Raises:
            UnknownJobError, WrongStateError: there is none, or it neither sleeps nor runs.
        """
        return self._wish(job_id, Wish.PAUSE, (State.SLEEPING, State.ACTIVE))

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
            if job.state is State.SLEEPING and self._alarm.cancel(job_id):
                job = self._change(job_id, next_attempt_at=None, reason="")
                self._submit(job_id)
                return job
        return self._again(job_id, "be tried again", (State.FAILED, State.CANCELLED))

    def forget(self, job_id: str) -> None:
        """Drop an ended or paused job and all that is known of it; what it stored stays.

        Raises:
            UnknownJobError, WrongStateError: there is none, or it has not ended.
        """
        with self._changing:
            job = self.job(job_id)
            if not (job.state.is_end or job.state is State.PAUSED):
                raise WrongStateError(job, "be forgotten", "ended or paused; cancel it first")
            with self._lock:
                self._jobs.pop(job_id, None)
            self._record.forget(job_id)

    def _wish(self, job_id: str, wish: Wish, states: tuple[State, ...]) -> Job:
        with self._changing:
            job = self.job(job_id)
            if job.state not in states:
                what = "cancelled" if wish is Wish.CANCEL else f"{wish}d"
                raise WrongStateError(job, f"be {what}", " or ".join(states))
            with self._lock:
                control = self._controls.get(job_id)
            if control is not None:
                control.wish_for(wish)
                return job
            waits = self._alarm.cancel(job_id)
            if self._balancer.remove(job_id) or waits or job.state is State.PAUSED:
                state, reason = WISHED[wish]
                return self._change(job_id, state=state, reason=reason, next_attempt_at=None)
            return self._wish_for_next(job_id, wish)

    def _wish_for_next(self, job_id: str, wish: Wish) -> Job:
        """The balancer has just taken it: the thread that is about to run it will see."""
        with self._lock:
            self._early[job_id] = wish
        return self.job(job_id)

    def _again(self, job_id: str, what: str, states: tuple[State, ...]) -> Job:
        with self._changing:
            job = self.job(job_id)
            if job.state not in states:
                raise WrongStateError(job, what, " or ".join(states))
            with self._lock:
                self._jobs[job_id] = job
            job = self._change(
                job_id,
                state=State.SLEEPING,
                reason="",
                ended_at=None,
                failures=0,
                next_attempt_at=None,
                failed=0,
            )
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
        self._alarm.set(job.id, min(max(0.0, left_s), MAX_DELAY_S))

    def _wake(self, job_id: str) -> None:
        with self._lock:
            sleeps = job_id in self._jobs
        if sleeps:
            self._submit(job_id)

    # --- running: in the balancer's threads ---

    def _peers_of(self, job_id: str) -> list[tuple[str, str, int]]:
        with self._lock:
            job = self._jobs.get(job_id)
        peers = job.peers if job is not None and job.kind is not JobKind.COLLECT else ()
        return [(peer.ae_title, peer.host, peer.port) for peer in peers]

    def _run(self, job_id: str) -> Ended:
        control = Control(
            lambda progress, items, save: self._progress(job_id, progress, items, save=save),
            self._record.items(job_id),
        )
        with self._lock:
            self._controls[job_id] = control
            attempts = self._jobs[job_id].attempts + 1
            early = self._early.pop(job_id, None)
        if early is not None:
            control.wish_for(early)
        job = self._change(
            job_id,
            state=State.ACTIVE,
            started_at=now(),
            attempts=attempts,
            reason="",
            next_attempt_at=None,
        )
        control.check()
        LOG.info("job started", job=job_id, kind=str(job.kind), peer=str(job.peer))
        return self._perform(job, control, self._archive, self._settings)

    def _progress(self, job_id: str, progress: Progress, items: list[str], *, save: bool) -> None:
        with self._lock:
            job = self._jobs[job_id] = _with(self._jobs[job_id], progress)
        if save:
            self._record.save(job, items)
        self._feed.publish(job)

    def _succeeded(self, job_id: str, ended: Ended) -> None:
        """The dispatcher of jobs that came to their end."""
        self._end(job_id, ended.state, reason=ended.reason, result=ended.result)

    def _failed(self, job_id: str, error: Exception) -> None:
        """The dispatcher of jobs that raised."""
        with self._lock:
            job = self._jobs[job_id]
            wish = self._controls[job_id].wish
        if wish is not None and isinstance(error, JobStoppedError | PeerError):
            state, reason = WISHED[wish]
            self._end(job_id, state, reason=reason)
        elif isinstance(error, PeerError) and error.passing and self._may_retry(job):
            self._retry_later(job, str(error))
        else:
            if isinstance(error, TooManyMatchesError):
                metrics.JOBS_OVER_BUDGET.add()
            if not isinstance(error, _EXPECTED):
                LOG.error("job failed unexpectedly", job=job_id, exc_info=error)
            self._end(job_id, State.FAILED, reason=_text(error), logged=_kind(error))

    def _may_retry(self, job: Job) -> bool:
        default = 0 if job.kind in (JobKind.ECHO, JobKind.FIND) else self._settings.jobs.retries
        return job.failures < int(job.parameters.get("retries", default))

    def _retry_later(self, job: Job, reason: str) -> None:
        delay_s = min(self._settings.jobs.retry_delay_s * 2.0**job.failures, MAX_DELAY_S)
        due = timestamp(datetime.now(UTC) + timedelta(seconds=delay_s))
        # First the alarm: whoever hears of the next attempt can hurry it, or call it off. If it
        # rings at once, the job sleeps in the balancer until this run has ended.
        self._alarm.set(job.id, delay_s)
        self._end(
            job.id,
            State.SLEEPING,
            logged="the peer is down",
            reason=f"{reason}; next attempt in {delay_s:g} s",
            failures=job.failures + 1,
            next_attempt_at=due,
        )

    def _end(self, job_id: str, state: State, *, logged: str = "", **changes: Any) -> None:
        """One run has ended; the job as well, when its state is an end.

        Args:
            logged: its reason without what peers and files say, which could name a patient.
        """
        with self._changing:
            with self._lock:
                control = self._controls.pop(job_id)
                control.finish()
                if changes.get("result") is None:
                    problems = control.progress.problems
                    found = {"problems": problems} if problems else None
                    changes["result"] = control.result or found
                self._jobs[job_id] = _with(self._jobs[job_id], control.progress)
            matches = changes["result"]
            if isinstance(matches, Matches):
                changes["result"] = matches.result() if state.is_end else None
                matches.close()
            changes["reason"] = shown(changes.get("reason", ""), MAX_WORDS)
            job = self._change(job_id, control.take_items(), state=state, **changes)
            if state is State.SLEEPING and control.wish in (Wish.CANCEL, Wish.PAUSE):
                # It came when the run had failed already: there is no next attempt.
                job = self._wish(job_id, control.wish, (State.SLEEPING,))
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
        """Change a job that has not ended; one that ends by it leaves the memory.

        Args:
            items: what it has newly behind it.
        """
        with self._changing:
            with self._lock:
                job = replace(self._jobs[job_id], **changes)
                if job.state.is_end:
                    job = replace(job, ended_at=now())
            self._record.save(job, items)
            if isinstance(job.result, EncodedJSON):
                job = replace(job, result=None)  # the record has it, and nobody has it twice
            with self._lock:
                if job.state.is_end:
                    del self._jobs[job_id]
                else:
                    self._jobs[job_id] = job
            self._feed.publish(job)
        return job

    def _forget_old(self) -> None:
        self._forgot_at = time.monotonic()
        now = datetime.fromtimestamp(self._archive.trusted_ms() / 1000, UTC)
        oldest = now - timedelta(days=self._settings.jobs.keep_days)
        self._record.forget_ended_before(timestamp(oldest))


def _with(job: Job, progress: Progress) -> Job:
    return replace(
        job,
        done=progress.done,
        failed=progress.failed,
        left=progress.left,
        bytes=progress.bytes,
        rate_bytes_s=progress.rate_bytes_s,
    )


def _kind(error: Exception) -> str:
    """Why a run failed, for the log: nothing that a peer or a file says."""
    if isinstance(error, PeerError):
        return f"peer {error.kind}"
    return "invalid request" if isinstance(error, InvalidRequestError) else _text(error)


def _text(error: Exception) -> str:
    """Why a run failed, for whoever asks for the job."""
    if isinstance(error, OSError):
        return error.strerror or str(error) or "the system gives no reason"
    return str(error) if isinstance(error, _EXPECTED) else "internal error, see the log"
