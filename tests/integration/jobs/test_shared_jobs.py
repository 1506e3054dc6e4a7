"""Jobs of several nodes: each runs once, and again when the node that ran it is gone."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import update

from lfscp.archive.archive import Archive
from lfscp.archive.index.tables.job_tables import job as job_table
from lfscp.config import Settings
from lfscp.jobs.control import Control, JobEnd
from lfscp.jobs.model import Job, State
from lfscp.jobs.request import JobRequest
from lfscp.jobs.sharing import SharedJobService, job_service
from lfscp.scu.peer import Peer
from tests.support.shared_runner import DEADLINE_S, Runner


def request(number: int = 0) -> JobRequest:
    return JobRequest("echo", Peer("PACS", "127.0.0.1", 104 + number))


StartRunner = Callable[..., Runner]


@pytest.fixture
def start_runner(postgresql_url: str, tmp_path: Path) -> Iterator[StartRunner]:
    runners: list[Runner] = []

    def start(name: str, **options: Any) -> Runner:
        runners.append(Runner(postgresql_url, tmp_path / name, **options))
        return runners[-1]

    yield start
    for runner in runners:
        runner.kill()


@pytest.fixture
def desk(postgresql_url: str, tmp_path: Path) -> Iterator[SharedJobService]:
    """A node that takes jobs and runs none: it has no room."""
    place = tmp_path / "objects"
    folder = tmp_path / "desk"
    with Archive.open(folder, index_url=postgresql_url, objects_root=place) as archive:
        service = SharedJobService(archive, Settings.model_validate({"data_dir": tmp_path}))
        yield service  # it is not started, so it claims nothing


def wait_for(service: SharedJobService, job_id: str, *states: State) -> Job:
    deadline = time.monotonic() + DEADLINE_S
    while (job := service.job(job_id)).state not in states:
        assert time.monotonic() < deadline, f"the job is {job.state}"
        time.sleep(0.02)
    return job


def test_every_job_runs_on_one_node(desk: SharedJobService, start_runner: StartRunner) -> None:
    jobs = [desk.submit(request(number)) for number in range(8)]
    runners = [start_runner(name, max_active=4) for name in ("a", "b")]
    began = [runner.says() for runner in runners for _ in range(4)]
    assert sorted(began) == sorted(("began", job.id) for job in jobs)
    for job in jobs:
        runners[0].release(job.id)
    ended = [wait_for(desk, job.id, State.DONE) for job in jobs]
    assert sorted(job.result for job in ended) == ["a"] * 4 + ["b"] * 4
    assert {job.attempts for job in ended} == {1}


def test_the_jobs_of_a_node_that_is_killed_go_to_another(
    desk: SharedJobService, start_runner: StartRunner
) -> None:
    job = desk.submit(request())
    first = start_runner("first")
    assert first.says() == ("began", job.id)
    second = start_runner("second")
    first.kill()
    assert second.says() == ("began", job.id)
    second.release(job.id)
    ended = wait_for(desk, job.id, State.DONE)
    assert (ended.result, ended.attempts) == ("second", 2)


def test_a_node_that_starts_again_takes_up_its_jobs_at_once(
    desk: SharedJobService, start_runner: StartRunner
) -> None:
    job = desk.submit(request())
    first = start_runner("node")
    assert first.says() == ("began", job.id)
    first.kill()
    assert start_runner("node").says() == ("began", job.id)


def test_no_more_run_than_all_nodes_may(desk: SharedJobService, start_runner: StartRunner) -> None:
    jobs = [desk.submit(request(number)) for number in range(6)]
    runners = [start_runner(name, of_all=3) for name in ("a", "b")]
    for _ in jobs:
        wait_until_active(desk, 3)
        (active, *_others) = desk.jobs([State.ACTIVE])
        runners[0].release(active.id)
        wait_for(desk, active.id, State.DONE)
        if not desk.jobs([State.SLEEPING]):
            break
        assert len(desk.jobs([State.ACTIVE])) <= 3


def wait_until_active(service: SharedJobService, count: int) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while len(found := service.jobs([State.ACTIVE])) != count:
        assert len(found) <= count
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_stop_request_reaches_the_node_that_runs_the_job(
    desk: SharedJobService, start_runner: StartRunner
) -> None:
    paused, cancelled = desk.submit(request(0)), desk.submit(request(1))
    runner = start_runner("runner")
    assert {runner.says()[1], runner.says()[1]} == {paused.id, cancelled.id}
    desk.pause(paused.id)
    desk.cancel(cancelled.id)
    wait_for(desk, cancelled.id, State.CANCELLED)
    wait_for(desk, paused.id, State.PAUSED)
    assert runner.is_silent()
    desk.resume(paused.id)
    assert runner.says() == ("began", paused.id)


def test_what_nobody_runs_is_changed_at_once(desk: SharedJobService) -> None:
    job = desk.submit(request())
    assert desk.pause(job.id).state is State.PAUSED
    assert desk.resume(job.id).state is State.SLEEPING
    assert desk.cancel(job.id).state is State.CANCELLED
    assert desk.retry(job.id).state is State.SLEEPING
    desk.cancel(job.id)
    desk.forget(job.id)
    assert desk.jobs() == []


def test_a_job_with_files_runs_where_they_are(
    desk: SharedJobService, start_runner: StartRunner, tmp_path: Path
) -> None:
    desk._settings = Settings.model_validate({"web": {"roots": [tmp_path]}})
    (tmp_path / "file").touch()
    peer = Peer("PACS", "127.0.0.1", 104)
    here = desk.submit(JobRequest("send", peer, {"paths": [str(tmp_path / "file")]}))
    anywhere = desk.submit(request())
    runner = start_runner("runner")
    assert runner.says() == ("began", anywhere.id)
    runner.release(anywhere.id)
    wait_for(desk, anywhere.id, State.DONE)
    assert desk.job(here.id).state is State.SLEEPING


def test_a_node_that_lost_its_job_changes_it_no_more(postgresql_url: str, tmp_path: Path) -> None:
    """As after a pause of its machine that was longer than the lease."""
    began, goes_on, stopped = (threading.Event() for _ in range(3))

    def perform(_job: Job, control: Control, *_: object) -> JobEnd:
        began.set()
        assert goes_on.wait(DEADLINE_S)
        stopped.set()
        return JobEnd(result="late")

    with Archive.open(tmp_path, index_url=postgresql_url, durability="os") as archive:
        settings = Settings.model_validate({"data_dir": tmp_path})
        service = SharedJobService(archive, settings, perform=perform)
        service.start()
        try:
            job = service.submit(request())
            assert began.wait(DEADLINE_S)
            with archive.index.writing() as connection:
                connection.execute(update(job_table).values(held_by="another", held_until=2**60))
            goes_on.set()
            assert stopped.wait(DEADLINE_S)
        finally:
            service.terminate(DEADLINE_S)
        kept = service.job(job.id)
        assert (kept.state, kept.result) == (State.ACTIVE, None)


def test_a_node_alone_has_a_service_of_its_own(tmp_path: Path) -> None:
    with Archive.open(tmp_path, durability="os") as archive:
        service = job_service(archive, Settings.model_validate({"data_dir": tmp_path}))
        assert not isinstance(service, SharedJobService)
