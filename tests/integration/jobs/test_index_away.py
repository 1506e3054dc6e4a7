"""Jobs of a node whose index is away for a while: none is left lying."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from lfscp.archive.archive import Archive
from lfscp.jobs.control import Control, JobEnd
from lfscp.jobs.model import Job, State
from lfscp.jobs.request import JobRequest
from lfscp.jobs.service import JobService
from lfscp.jobs.sleeping import SleepingJobs
from lfscp.jobs.store import JobStore
from lfscp.scu.errors import PeerError, PeerErrorKind
from lfscp.scu.peer import Peer
from tests.support.dicom_peer import until
from tests.support.job_services import job_service

DEADLINE_S = 30
PACS = Peer("PACS", "127.0.0.1", 104)
RETRIEVE = JobRequest("retrieve", PACS, {"keys": {"StudyInstanceUID": "1.2.3"}})


@pytest.fixture
def archive(tmp_path: Path, open_archive: Callable[..., Archive]) -> Iterator[Archive]:
    """Of a node alone, then of one that shares its index."""
    with open_archive(tmp_path / "data", durability="os") as opened:
        yield opened


QUICK = {"retry_delay_s": 0.05, "lease_s": 0.3}


def serving(
    archive: Archive, perform: Callable[[Job, Control], JobEnd], **jobs: float
) -> AbstractContextManager[JobService]:
    return job_service(archive, perform, **{**QUICK, **jobs})


@contextmanager
def away(archive: Archive, table: str) -> Iterator[None]:
    """A table that nobody finds."""

    def rename(name: str, to: str) -> None:
        with archive.index.writing() as connection:
            connection.execute(text(f"ALTER TABLE {name} RENAME TO {to}"))

    rename(table, f"{table}_away")
    try:
        yield
    finally:
        rename(f"{table}_away", table)


def ends(service: JobService, job_id: str, state: State) -> bool:
    return until(lambda: service.job(job_id).state is state, DEADLINE_S)


class Counted:
    """Work that waits until it may go on, and counts how often it was begun."""

    def __init__(self) -> None:
        self.begun = 0
        self.may_end = threading.Event()

    def __call__(self, _job: Job, control: Control) -> JobEnd:
        self.begun += 1
        while not self.may_end.wait(0.01):
            control.check()
        return JobEnd()


def test_a_job_that_could_not_begin_begins_when_the_index_is_there_again(
    archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked, items = threading.Semaphore(0), JobStore.items

    def items_and_tell(store: JobStore, job_id: str) -> set[str]:
        try:
            return items(store, job_id)
        finally:
            looked.release()

    monkeypatch.setattr(JobStore, "items", items_and_tell)
    work = Counted()
    work.may_end.set()
    with serving(archive, work) as service:
        with away(archive, "job_item"):
            job = service.submit(RETRIEVE)
            assert looked.acquire(timeout=DEADLINE_S)
        assert ends(service, job.id, State.DONE)
    assert service.job(job.id).attempts == 1


def test_a_job_whose_end_could_not_be_stored_runs_again(archive: Archive) -> None:
    work = Counted()
    with serving(archive, work) as service:
        job = service.submit(RETRIEVE)
        assert ends(service, job.id, State.ACTIVE)
        with away(archive, "job"):
            work.may_end.set()
            assert until(lambda: not service._runs._controls), "the run has not ended"
        assert ends(service, job.id, State.DONE)
    assert work.begun == 2


def test_a_job_whose_end_could_not_be_stored_can_be_cancelled(archive: Archive) -> None:
    work = Counted()
    with serving(archive, work, retry_delay_s=3600.0, lease_s=1.0) as service:
        job = service.submit(RETRIEVE)
        assert ends(service, job.id, State.ACTIVE)
        with away(archive, "job"):
            work.may_end.set()
            assert until(lambda: not service._runs._controls), "the run has not ended"
        work.may_end.clear()
        service.cancel(job.id)
        assert ends(service, job.id, State.CANCELLED)


def test_a_job_that_could_not_be_cancelled_goes_on(archive: Archive) -> None:
    first = Counted()
    with serving(archive, first, max_active=1) as service:
        running, waiting = service.submit(RETRIEVE), service.submit(RETRIEVE)
        assert ends(service, running.id, State.ACTIVE)
        with away(archive, "job"), pytest.raises(SQLAlchemyError):
            service.cancel(waiting.id)
        first.may_end.set()
        assert ends(service, waiting.id, State.DONE)


@pytest.mark.parametrize("change", [JobService.cancel, JobService.retry], ids=["cancel", "retry"])
def test_a_job_that_waits_for_its_next_attempt_still_does_after_a_change_that_failed(
    archive: Archive, change: Callable[[JobService, str], Job]
) -> None:
    def fail_once(job: Job, _control: Control) -> JobEnd:
        if job.attempts == 1:
            raise PeerError(PeerErrorKind.UNREACHABLE, PACS, "cannot be reached")
        return JobEnd()

    with serving(archive, fail_once, retry_delay_s=1.0) as service:
        job = service.submit(RETRIEVE)
        assert until(lambda: service.job(job.id).next_attempt_at is not None, DEADLINE_S)
        with away(archive, "job"), pytest.raises(SQLAlchemyError):
            getattr(service, change.__name__)(job.id)
        assert ends(service, job.id, State.DONE)


def test_a_paused_job_that_could_not_be_forgotten_can_be_cancelled(archive: Archive) -> None:
    with serving(archive, Counted()) as service:
        job = service.submit(RETRIEVE)
        assert ends(service, job.id, State.ACTIVE)
        service.pause(job.id)
        assert ends(service, job.id, State.PAUSED)
        with away(archive, "job_item"), pytest.raises(SQLAlchemyError):
            service.forget(job.id)
        service.cancel(job.id)
        assert service.job(job.id).state is State.CANCELLED


def test_a_failed_job_that_could_not_be_tried_again_is_not_unfinished(tmp_path: Path) -> None:
    refuse = (
        "CREATE TRIGGER refuse BEFORE UPDATE ON job BEGIN SELECT RAISE(ABORT, 'read-only'); END"
    )
    with (
        Archive.open(tmp_path / "data", durability="os") as archive,
        serving(archive, lambda *_: JobEnd(State.FAILED)) as service,
    ):
        job = service.submit(RETRIEVE)
        assert ends(service, job.id, State.FAILED)
        with archive.index.writing() as connection:
            connection.execute(text(refuse))
        with pytest.raises(SQLAlchemyError):
            service.retry(job.id)
        assert service.terminate(0.0) == []


def test_a_job_whose_end_cannot_be_stored_at_all_runs_ever_more_rarely(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refuse = "CREATE TRIGGER no BEFORE UPDATE ON job WHEN new.state = 'done' BEGIN "
    delays: list[float] = []
    wait = SleepingJobs.set

    def note(sleeping: SleepingJobs, job_id: str, after_s: float) -> None:
        delays.append(after_s)
        wait(sleeping, job_id, after_s)

    monkeypatch.setattr(SleepingJobs, "set", note)
    with (
        Archive.open(tmp_path / "data", durability="os") as archive,
        serving(archive, lambda *_: JobEnd(), retry_delay_s=0.01) as service,
    ):
        with archive.index.writing() as connection:
            connection.execute(text(f"{refuse} SELECT RAISE(ABORT, 'too big'); END"))
        job = service.submit(RETRIEVE)
        assert until(lambda: len(delays) >= 4, DEADLINE_S)
        with archive.index.writing() as connection:
            connection.execute(text("DROP TRIGGER no"))
        assert ends(service, job.id, State.DONE)
    assert delays[:4] == [0.01, 0.02, 0.04, 0.08]
