"""Jobs are kept, run, stopped, tried again and told about; their work is the tests' own."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import datetime, timedelta, tzinfo
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import select

from lfscp.archive.archive import Archive
from lfscp.archive.errors import ArchiveError
from lfscp.archive.index.tables import job_tables
from lfscp.jobs.balancer import Balancer, TerminatedError
from lfscp.jobs.control import Control, JobEnd
from lfscp.jobs.feed import Feed
from lfscp.jobs.model import Job, State, UnknownJobError, WrongStateError
from lfscp.jobs.model import JobKind as JobKind
from lfscp.jobs.request import InvalidRequestError, JobRequest
from lfscp.jobs.service import JobService
from lfscp.jobs.store import JobStore
from lfscp.jobs.unfinished import UnfinishedJobs
from lfscp.scu.errors import PeerError, PeerErrorKind
from lfscp.scu.peer import Peer
from tests.support.job_services import job_service

DEADLINE_S = 30
PACS = Peer("PACS", "127.0.0.1", 104)
ECHO = JobRequest("echo", PACS)
RETRIEVE = JobRequest("retrieve", PACS, {"keys": {"StudyInstanceUID": "1.2.3"}})


@pytest.fixture
def archive(tmp_path: Path, open_archive: Callable[..., Archive]) -> Iterator[Archive]:
    """Of a node alone, then of one that shares its index."""
    with open_archive(tmp_path / "data", durability="os") as opened:
        yield opened


def done(_job: Job, _control: Control) -> JobEnd:
    return JobEnd(result=["found"])


class Held:
    """Work that goes on until it is let go, or somebody wishes otherwise."""

    def __init__(self) -> None:
        self.began = threading.Semaphore(0)
        self.release = threading.Event()

    def __call__(self, job: Job, control: Control) -> JobEnd:
        control.progress.done = 3
        control.progress.left = 2
        control.put_behind("1.2.3")
        self.began.release()
        while not self.release.is_set():
            control.stop.wait(0.01)
            control.check()
        return JobEnd(result=job.id)

    def wait(self) -> None:
        assert self.began.acquire(timeout=DEADLINE_S)


def wait_for(service: JobService, job_id: str, *states: State) -> Job:
    with service.subscribe() as news:
        for _ in range(1000):
            job = service.job(job_id)
            if job.state in states:
                return job
            news.next(DEADLINE_S)
    raise AssertionError(f"the job is {job.state}")


def test_a_job_runs_and_is_kept_with_its_outcome(archive: Archive) -> None:
    with job_service(archive, done) as service:
        job = service.submit(ECHO)
        ended = wait_for(service, job.id, State.DONE)
        assert ended.result == ["found"]
        assert ended.attempts == 1
        assert ended.created_at <= ended.started_at <= ended.ended_at
        assert service.jobs() == [ended]
    with job_service(archive, done) as service:
        assert service.job(job.id) == ended, "after a restart"


def test_a_job_is_described_as_dtools_does(archive: Archive) -> None:
    held = Held()
    with job_service(archive, held) as service:
        job = service.submit(ECHO)
        held.wait()
        active = wait_for(service, job.id, State.ACTIVE)
        assert active.description == "active job: C-Echo request: PACS@127.0.0.1:104"
        assert json.loads(json.dumps(active.to_json()))["description"] == active.description


def test_what_sleeps_or_ran_when_the_process_ended_runs_again(archive: Archive) -> None:
    first = Held()
    with job_service(archive, first, max_active=1) as service:
        running = service.submit(RETRIEVE)
        sleeping = service.submit(RETRIEVE)
        first.wait()
        # What a process that is killed leaves: the record as it is now.
        with archive.index.writing() as connection:
            of_jobs = select(job_tables.job.c.id, job_tables.job.c.state)
            rows = list(connection.execute(of_jobs.order_by(job_tables.job.c.arrival)))
        assert rows == [(running.id, "active"), (sleeping.id, "sleeping")]
        with job_service(archive, done, max_active=1) as restarted:
            for job in (running, sleeping):
                assert wait_for(restarted, job.id, State.DONE).result == ["found"]
            assert restarted.job(running.id).attempts == 2


def test_what_a_run_has_behind_it_is_known_to_the_next(archive: Archive) -> None:
    held = Held()
    with job_service(archive, held) as service:
        job = service.submit(RETRIEVE)
        held.wait()
        service.pause(job.id)
        assert wait_for(service, job.id, State.PAUSED).left == 2
    seen = []

    def look(_job: Job, control: Control) -> JobEnd:
        seen.append(control.is_behind("1.2.3"))
        return JobEnd()

    with job_service(archive, look) as service:
        assert service.job(job.id).state is State.PAUSED, "a paused job stays so"
        service.resume(job.id)
        wait_for(service, job.id, State.DONE)
    assert seen == [True]


def test_an_active_job_is_cancelled_as_soon_as_it_looks(archive: Archive) -> None:
    held = Held()
    with job_service(archive, held) as service:
        job = service.submit(RETRIEVE)
        held.wait()
        service.cancel(job.id)
        ended = wait_for(service, job.id, State.CANCELLED)
        assert (ended.done, ended.left, ended.reason) == (3, 2, "cancelled")
        with pytest.raises(WrongStateError, match="cancelled cannot be cancelled"):
            service.cancel(job.id)


def test_the_counters_of_a_paused_job_survive_while_it_finds_out_what_is_left(
    archive: Archive,
) -> None:
    may_count, asked = threading.Event(), threading.Event()

    def work(job: Job, control: Control) -> JobEnd:
        if job.attempts == 1:
            control.progress.done, control.progress.left, control.progress.bytes = 3, 2, 300
            control.note_counted()
            asked.set()
        else:
            asked.set()
            may_count.wait(DEADLINE_S)
            control.check()
            control.progress.done, control.progress.left = 5, 0
            control.progress.bytes += 200
            control.note_counted()
            return JobEnd()
        control.stop.wait(DEADLINE_S)
        control.check()
        return JobEnd()

    def counters(job: Job) -> tuple[int, int, int]:
        return job.done, job.left, job.bytes

    with job_service(archive, work) as service:
        job = service.submit(RETRIEVE)
        for _ in range(2):  # the second time it is paused before it knows what is left
            assert asked.wait(DEADLINE_S)
            asked.clear()
            service.pause(job.id)
            may_count.set()
            assert counters(wait_for(service, job.id, State.PAUSED)) == (3, 2, 300)
            may_count.clear()
            service.resume(job.id)
            assert asked.wait(DEADLINE_S)
            assert counters(service.job(job.id)) == (3, 2, 300)
        may_count.set()
        assert counters(wait_for(service, job.id, State.DONE)) == (5, 0, 500)


def test_a_sleeping_job_is_cancelled_or_paused_at_once(archive: Archive) -> None:
    held = Held()
    with job_service(archive, held, max_active=1) as service:
        service.submit(RETRIEVE)
        held.wait()
        cancelled, paused = service.submit(RETRIEVE), service.submit(RETRIEVE)
        assert service.cancel(cancelled.id).state is State.CANCELLED
        assert service.pause(paused.id).state is State.PAUSED
        held.release.set()
        service.resume(paused.id)
        assert wait_for(service, paused.id, State.DONE).attempts == 1
        assert service.job(cancelled.id).attempts == 0


def test_a_job_that_begins_while_it_is_cancelled_is_cancelled(
    archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    may_begin, begun = threading.Event(), threading.Event()
    items, remove, change = JobStore.items, Balancer.remove, UnfinishedJobs.change

    def items_later(store: JobStore, job_id: str) -> set[str]:
        assert may_begin.wait(DEADLINE_S)
        return items(store, job_id)

    def remove_while_it_begins(balancer: Balancer[str, JobEnd], job_id: str) -> bool:
        may_begin.set()
        assert begun.wait(DEADLINE_S)
        return remove(balancer, job_id)

    def change_as_it_begins(unfinished: UnfinishedJobs, job_id: str, *items: Any, **to: Any) -> Job:
        begun.set()
        return change(unfinished, job_id, *items, **to)

    monkeypatch.setattr(JobStore, "items", items_later)
    monkeypatch.setattr(Balancer, "remove", remove_while_it_begins)
    monkeypatch.setattr(UnfinishedJobs, "change", change_as_it_begins)
    with job_service(archive, Held()) as service:
        job = service.submit(RETRIEVE)
        service.cancel(job.id)
        wait_for(service, job.id, State.CANCELLED)


def test_a_job_fails_for_which_no_thread_can_be_started(
    archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = threading.Thread.start

    def start_no_job(thread: threading.Thread) -> None:
        if thread.name.startswith("lfscp-job-") and thread.name != "lfscp-job-timer":
            raise RuntimeError("can't start new thread")
        start(thread)

    with job_service(archive, done) as service:
        with monkeypatch.context() as patched:
            patched.setattr(threading.Thread, "start", start_no_job)
            job = service.submit(ECHO)
            assert wait_for(service, job.id, State.FAILED).reason
        service.retry(job.id)
        wait_for(service, job.id, State.DONE)


def test_a_job_is_tried_again_though_the_thread_that_wakes_it_could_not_be_started_at_first(
    archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    start, refused = threading.Thread.start, threading.Event()

    def refuse_once(thread: threading.Thread) -> None:
        if thread.name == "lfscp-job-timer" and not refused.is_set():
            refused.set()
            raise RuntimeError("can't start new thread")
        start(thread)

    def fail_once(job: Job, _control: Control) -> JobEnd:
        if job.attempts == 1:
            raise PeerError(PeerErrorKind.UNREACHABLE, PACS, "cannot be reached")
        return JobEnd()

    monkeypatch.setattr(threading.Thread, "start", refuse_once)
    with job_service(archive, fail_once, retry_delay_s=0.01) as service:
        first = service.submit(RETRIEVE)
        assert refused.wait(DEADLINE_S)
        wait_for(service, service.submit(RETRIEVE).id, State.DONE)
        wait_for(service, first.id, State.DONE)


def test_a_peer_that_is_down_is_tried_again_after_growing_delays(archive: Archive) -> None:
    delays = []

    def fail(job: Job, _control: Control) -> JobEnd:
        if job.attempts > 3:
            return JobEnd()
        raise PeerError(PeerErrorKind.UNREACHABLE, PACS, "cannot be reached")

    with (
        job_service(archive, fail, retry_delay_s=0.01, retries=5) as service,
        service.subscribe() as news,
    ):
        job = service.submit(RETRIEVE)
        while (told := news.next(DEADLINE_S)) is not None and not told.state.is_end:
            if told.next_attempt_at is not None:
                delays.append(told.reason)
        assert told is not None
        assert (told.state, told.attempts) == (State.DONE, 4)
    prefix = "PACS@127.0.0.1:104 cannot be reached; next attempt in "
    assert set(delays) <= {f"{prefix}{delay} s" for delay in ("0.01", "0.02", "0.04")}
    assert job.id == told.id


@pytest.mark.parametrize(
    ("request_", "kind", "retries", "attempts"),
    [
        (RETRIEVE, PeerErrorKind.UNREACHABLE, 2, 3),
        (RETRIEVE, PeerErrorKind.TIMED_OUT, 2, 3),
        (RETRIEVE, PeerErrorKind.REJECTED, 2, 1),
        (RETRIEVE, PeerErrorKind.REFUSED, 2, 1),
        (ECHO, PeerErrorKind.UNREACHABLE, 2, 1),
    ],
)
def test_only_what_may_pass_is_tried_again(
    archive: Archive, request_: JobRequest, kind: PeerErrorKind, retries: int, attempts: int
) -> None:
    def fail(_job: Job, _control: Control) -> JobEnd:
        raise PeerError(kind, PACS, "is no good")

    with job_service(archive, fail, retry_delay_s=0.001, retries=retries) as service:
        job = service.submit(request_)
        ended = wait_for(service, job.id, State.FAILED)
    assert ended.attempts == attempts
    assert ended.reason == "PACS@127.0.0.1:104 is no good"


def test_a_failed_job_can_be_tried_again(archive: Archive) -> None:
    def fail_once(job: Job, _control: Control) -> JobEnd:
        return JobEnd(State.FAILED, "1 of 2") if job.attempts == 1 else JobEnd()

    with job_service(archive, fail_once) as service:
        job = service.submit(RETRIEVE)
        assert wait_for(service, job.id, State.FAILED).reason == "1 of 2"
        service.retry(job.id)
        ended = wait_for(service, job.id, State.DONE)
        assert (ended.attempts, ended.reason) == (2, "")
        with pytest.raises(WrongStateError):
            service.retry(job.id)


def test_a_job_that_waits_for_its_next_attempt_can_be_hurried_or_cancelled(
    archive: Archive,
) -> None:
    def fail(job: Job, _control: Control) -> JobEnd:
        if job.attempts == 1:
            raise PeerError(PeerErrorKind.UNREACHABLE, PACS, "cannot be reached")
        return JobEnd()

    with job_service(archive, fail, retry_delay_s=3600.0) as service:
        hurried, dropped = service.submit(RETRIEVE), service.submit(RETRIEVE)
        for job in (hurried, dropped):
            with service.subscribe() as news:
                while service.job(job.id).next_attempt_at is None:
                    assert news.next(DEADLINE_S)
        service.retry(hurried.id)
        assert wait_for(service, hurried.id, State.DONE).attempts == 2
        assert service.cancel(dropped.id).state is State.CANCELLED


def test_the_wait_for_the_next_attempt_outlasts_a_restart(archive: Archive) -> None:
    def fail(_job: Job, _control: Control) -> JobEnd:
        raise PeerError(PeerErrorKind.UNREACHABLE, PACS, "cannot be reached")

    with job_service(archive, fail, retry_delay_s=3600.0) as service, service.subscribe() as news:
        job = service.submit(RETRIEVE)
        while service.job(job.id).next_attempt_at is None:
            assert news.next(DEADLINE_S)
        due = service.job(job.id).next_attempt_at
    with job_service(archive, done) as service:
        again = service.job(job.id)
        assert (again.state, again.next_attempt_at) == (State.SLEEPING, due)
        service.retry(job.id)
        wait_for(service, job.id, State.DONE)


def test_a_clock_that_was_wrong_puts_off_no_attempt(
    archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_job: Job, _control: Control) -> JobEnd:
        raise PeerError(PeerErrorKind.UNREACHABLE, PACS, "cannot be reached")

    class Ahead(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> datetime:
            return datetime.now(tz) + timedelta(days=30)

    with monkeypatch.context() as patched:
        patched.setattr("lfscp.jobs.runs.datetime", Ahead)
        with job_service(archive, fail, retry_delay_s=1.0) as service, service.subscribe() as news:
            job = service.submit(RETRIEVE)
            while service.job(job.id).next_attempt_at is None:
                assert news.next(DEADLINE_S)
    monkeypatch.setattr("lfscp.jobs.sleeping.MAX_DELAY_S", 0.01)
    with job_service(archive, done) as service:  # its clock is right again
        wait_for(service, job.id, State.DONE)


def test_an_unexpected_error_fails_the_job_and_frees_its_place(
    archive: Archive, capfd: pytest.CaptureFixture[str]
) -> None:
    def explode(job: Job, _control: Control) -> JobEnd:
        if job.kind == "echo":
            raise ZeroDivisionError("no reason")
        return JobEnd()

    with job_service(archive, explode, max_active=1) as service:
        first, second = service.submit(ECHO), service.submit(RETRIEVE)
        reason = wait_for(service, first.id, State.FAILED).reason
        assert reason == "internal error, see the log"
        wait_for(service, second.id, State.DONE)
    assert "no reason" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (KeyError(), "internal error, see the log"),
        (OSError(), "the system gives no reason"),
        (OSError(28, "No space left on device"), "No space left on device"),
        (ArchiveError("read the index", "disk I/O error"), "cannot read the index: disk I/O error"),
    ],
)
def test_why_a_job_failed_is_said_in_words(archive: Archive, error: Exception, reason: str) -> None:
    def fail(_job: Job, _control: Control) -> JobEnd:
        raise error

    with job_service(archive, fail) as service:
        assert wait_for(service, service.submit(ECHO).id, State.FAILED).reason == reason


def test_terminate_takes_no_more_and_says_what_is_left(archive: Archive) -> None:
    held = Held()
    with job_service(archive, held, max_active=1) as service:
        active, sleeping = service.submit(RETRIEVE), service.submit(RETRIEVE)
        held.wait()
        left = service.terminate(0.0)
        # Of several nodes any takes the one that sleeps: it is not this one's.
        its_own = {active.id} if archive.index.is_shared else {active.id, sleeping.id}
        assert {job.id for job in left} == its_own
        assert {job.state for job in left} == {State.SLEEPING}
        with pytest.raises(TerminatedError):
            service.submit(ECHO)
    with job_service(archive, done) as service:
        for job in (active, sleeping):
            wait_for(service, job.id, State.DONE)


def test_ended_jobs_are_forgotten_after_a_while_and_others_are_not(archive: Archive) -> None:
    held = Held()
    with job_service(archive, held) as service:
        ended, paused = service.submit(RETRIEVE), service.submit(RETRIEVE)
        for _ in range(2):
            held.wait()
        service.pause(paused.id)
        wait_for(service, paused.id, State.PAUSED)
        held.release.set()
        wait_for(service, ended.id, State.DONE)
    with job_service(archive, done, keep_days=1.0) as service:
        assert {job.id for job in service.jobs()} == {ended.id, paused.id}
    with job_service(archive, done, keep_days=0.0) as service:
        assert {job.id for job in service.jobs()} == {paused.id}
        with pytest.raises(UnknownJobError):
            service.job(ended.id)


def test_a_job_can_be_forgotten_once_it_has_ended(archive: Archive) -> None:
    held = Held()
    with job_service(archive, held) as service:
        job = service.submit(RETRIEVE)
        held.wait()
        with pytest.raises(WrongStateError, match="cancel it first"):
            service.forget(job.id)
        held.release.set()
        wait_for(service, job.id, State.DONE)
        service.forget(job.id)
        assert service.jobs() == []


def test_jobs_are_listed_newest_first_by_state_and_in_parts(archive: Archive) -> None:
    with job_service(archive, done) as service:
        jobs = [service.submit(ECHO) for _ in range(5)]
        for job in jobs:
            wait_for(service, job.id, State.DONE)
        ids = [job.id for job in reversed(jobs)]
        assert [job.id for job in service.jobs()] == ids
        assert [job.id for job in service.jobs(["done"], limit=2, offset=1)] == ids[1:3]
        assert service.jobs([State.FAILED]) == []


def test_a_slow_subscriber_gets_the_newest_of_each_job_only() -> None:
    feed = Feed()
    first = Job("1", JobKind.ECHO, (PACS,), {})
    second = replace(first, id="2")
    with feed.subscribe() as news:
        for job in (first, second, replace(first, state=State.DONE)):
            feed.publish(job)
        assert news.next(DEADLINE_S) == replace(first, state=State.DONE)
        assert news.next(DEADLINE_S) == second
        assert news.next(0) is None
    feed.publish(first)
    assert news.next(DEADLINE_S) is None, "a closed one wakes at once"


def test_only_one_job_per_peer_when_configured_so(archive: Archive) -> None:
    held = Held()
    other = JobRequest("echo", replace(PACS, port=105))
    with job_service(archive, held, per_peer=1) as service:
        service.submit(ECHO)
        second, third = service.submit(ECHO), service.submit(other)
        held.wait()
        held.wait()
        assert service.job(second.id).state is State.SLEEPING
        assert service.job(third.id).state is State.ACTIVE
        held.release.set()
        wait_for(service, second.id, State.DONE)


def test_a_send_outside_the_roots_is_refused_before_it_is_kept(
    archive: Archive, tmp_path: Path
) -> None:
    with job_service(archive, done) as service:
        with pytest.raises(InvalidRequestError, match="outside the folders"):
            service.submit(JobRequest("send", PACS, {"paths": [str(tmp_path)]}))
        assert service.jobs() == []


def test_the_migration_makes_the_tables(archive: Archive) -> None:
    def of_jobs(_object: Any, name: str | None, kind: str, *_: Any) -> bool:
        return kind != "table" or str(name).startswith("job")

    with archive.index.engine.connect() as connection:
        options = {"compare_type": True, "include_object": of_jobs}
        context = MigrationContext.configure(connection, opts=options)
        assert compare_metadata(context, job_tables.job.metadata) == []
