"""Jobs that count an object as delivered only once its receiver has committed to keep it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import update

from lfscp.archive.archive import Archive
from lfscp.archive.index.tables.workflow_tables import commitment_request
from lfscp.config import Settings
from lfscp.jobs.model import Job, State
from lfscp.jobs.request import InvalidRequestError, JobRequest
from lfscp.jobs.service import JobService
from lfscp.jobs.sharing import job_service
from lfscp.jobs.tasks.committing import Committing
from lfscp.scu.commit import Question, ask
from lfscp.scu.errors import PeerError, PeerErrorKind
from lfscp.scu.peer import Peer
from tests.e2e.test_jobs_retrieve import wait
from tests.support.committing_peer import CommittingPeer, committing_peer, report
from tests.support.served_archive import Node, image, served

STUDY = "1.2.826.0.1.3680043.8.498.1"
NOT_STORED = 0x0112


@pytest.fixture
def node(tmp_path: Path, index_url: str | None) -> Iterator[Node]:
    """A node with a study of three images, alone and then one that shares its index."""
    index = {"index": {"url": index_url}} if index_url else {}
    with served(tmp_path / "node", **index) as listening:
        for _ in range(3):
            listening.store(image(study=STUDY, series=f"{STUDY}.1"))
        yield listening


@contextmanager
def jobs_of(archive: Archive, **settings: Any) -> Iterator[JobService]:
    chosen = Settings.model_validate({"data_dir": archive.data_dir, **settings})
    service = job_service(archive, chosen)
    service.start()
    try:
        yield service
    finally:
        service.terminate(5)


@pytest.fixture
def stay(monkeypatch: pytest.MonkeyPatch) -> None:
    """Jobs do not stay on the association, and whether they are woken is looked for often."""
    monkeypatch.setattr("lfscp.jobs.tasks.committing._STAY_S", 0.0)
    monkeypatch.setattr("lfscp.jobs.sleeping.WATCH_EVERY_S", 0.05)
    monkeypatch.setattr("lfscp.jobs.sharing.LOOK_EVERY_S", 0.05)


def submit(service: JobService, peer: CommittingPeer, **parameters: Any) -> Job:
    receiver = Peer(peer.ae_title, "127.0.0.1", peer.port)
    asked = {"studies": [STUDY], "commit": True, **parameters}
    return service.submit(JobRequest("send", receiver, asked))


def asleep(service: JobService, job: Job) -> Job:
    """The job once it waits for a report."""
    return wait(service, job, lambda each: each.state is State.SLEEPING and each.attempts > 0)


def uids(asked: Any) -> list[str]:
    return [str(each.ReferencedSOPInstanceUID) for each in asked.ReferencedSOPSequence]


def test_a_report_on_the_association_ends_the_job(node: Node) -> None:
    with committing_peer(reports_here=True) as peer, jobs_of(node.archive) as service:
        ended = wait(service, submit(service, peer))
        assert (ended.state, ended.done, ended.left, ended.failed) == (State.DONE, 3, 0, 0)
        assert len(peer.stored) == 3
        assert uids(peer.asked[0]) == peer.stored


@pytest.mark.usefixtures("stay")
def test_a_job_sleeps_until_the_report_comes_to_the_node(node: Node) -> None:
    with committing_peer() as peer, jobs_of(node.archive) as service:
        job = submit(service, peer)
        asked = peer.wait_until_asked()
        waiting = asleep(service, job)
        assert waiting.reason == f"waiting for the report of {job.peer}, 3 objects"
        assert (waiting.done, waiting.left) == (0, 3)
        kind, information = report(asked)
        assert peer.send_report(("127.0.0.1", node.port), information, kind).Status == 0x0000
        ended = wait(service, job)
        assert (ended.state, ended.done, ended.left) == (State.DONE, 3, 0)
        assert len(peer.stored) == 3


@pytest.mark.usefixtures("stay")
def test_a_report_that_comes_as_the_job_is_about_to_sleep_counts(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    count, counted = Committing._count, 0

    def then_it_comes(self: Committing) -> None:
        nonlocal counted
        count(self)
        counted += 1
        if counted == 2:  # the peer has been asked
            peer.send_report(("127.0.0.1", node.port), report(peer.wait_until_asked())[1])

    monkeypatch.setattr(Committing, "_count", then_it_comes)
    with committing_peer() as peer, jobs_of(node.archive) as service:
        ended = wait(service, submit(service, peer))
        assert (ended.state, ended.done, ended.left) == (State.DONE, 3, 0)


@pytest.mark.usefixtures("stay")
def test_what_is_not_committed_to_fails_the_job_and_is_sent_again(node: Node) -> None:
    with committing_peer() as peer, jobs_of(node.archive) as service:
        job = submit(service, peer)
        asked = peer.wait_until_asked()
        asleep(service, job)
        bad = uids(asked)[1]
        kind, information = report(asked, {bad: NOT_STORED})
        peer.send_report(("127.0.0.1", node.port), information, kind)
        failed = wait(service, job)
        words = "not committed to: not stored there (0x0112)"
        assert (failed.state, failed.done, failed.failed) == (State.FAILED, 2, 1)
        assert failed.reason == f"1 of 3 objects were not delivered: {words}"
        assert failed.result == {"problems": [{"what": bad, "reason": words}]}

        service.retry(job.id)
        again = peer.wait_until_asked(2)
        assert uids(again) == [bad]
        assert peer.stored[3:] == [bad]
        asleep(service, job)
        peer.send_report(("127.0.0.1", node.port), report(again)[1])
        ended = wait(service, job)
        assert (ended.state, ended.done, ended.failed) == (State.DONE, 3, 0)


def test_a_peer_without_the_class_fails_the_job(node: Node) -> None:
    with committing_peer(commits=False) as peer, jobs_of(node.archive) as service:
        ended = wait(service, submit(service, peer))
        assert (ended.state, ended.done) == (State.FAILED, 0)
        assert ended.reason == f"{ended.peer} does not support Storage Commitment"


def test_a_peer_that_refuses_fails_the_job_which_asks_anew(node: Node) -> None:
    with committing_peer(reports_here=True, answers=[0x0213]) as peer:
        with jobs_of(node.archive) as service:
            job = submit(service, peer)
            failed = wait(service, job)
            assert failed.state is State.FAILED
            assert failed.reason == f"{job.peer} refused to commit: status 0x0213"
            service.retry(job.id)
            ended = wait(service, job)
        assert (ended.state, ended.done) == (State.DONE, 3)
        assert len(peer.stored) == 3


@pytest.mark.usefixtures("stay")
def test_a_job_fails_when_no_report_comes_in_time(node: Node) -> None:
    with committing_peer() as peer:
        with jobs_of(node.archive) as service:
            job = submit(service, peer)
            asleep(service, job)
        with node.archive.index.writing() as connection:
            long_ago = update(commitment_request).values(created_at=1000)
            connection.execute(long_ago)
        with jobs_of(node.archive) as service:
            _hurry(node.archive, job)
            failed = wait(service, job)
        assert (failed.state, failed.done, failed.failed) == (State.FAILED, 0, 3)
        assert failed.reason.endswith("no report on its commitment came within 24 hours")


def _hurry(archive: Archive, job: Job) -> None:
    """Let the time of a sleeping job come."""
    from lfscp.archive.index.tables.job_tables import job as table

    with archive.index.writing() as connection:
        due = update(table).where(table.c.id == job.id).values(next_attempt_at="2026-01-01")
        connection.execute(due)


@pytest.mark.usefixtures("stay")
def test_a_report_that_comes_while_no_node_runs_jobs_is_found_at_the_start(node: Node) -> None:
    with committing_peer() as peer:
        with jobs_of(node.archive) as service:
            job = submit(service, peer)
            asked = peer.wait_until_asked()
            asleep(service, job)
        peer.send_report(("127.0.0.1", node.port), report(asked)[1])
        with jobs_of(node.archive) as service:
            ended = wait(service, job)
        assert (ended.state, ended.done, len(peer.asked)) == (State.DONE, 3, 1)


@pytest.mark.usefixtures("stay")
def test_a_waiting_job_takes_no_place(node: Node) -> None:
    with committing_peer() as silent, committing_peer(reports_here=True) as quick:
        with jobs_of(node.archive, jobs={"max_active": 1}) as service:
            first = submit(service, silent)
            asleep(service, first)
            ended = wait(service, service.submit(JobRequest("echo", first.peer)))
            assert ended.state is State.DONE
            assert service.job(first.id).state is State.SLEEPING
            assert service.cancel(first.id).state is State.CANCELLED
        assert quick.asked == []


@pytest.mark.usefixtures("stay")
def test_what_could_not_be_sent_has_failed_also_after_the_wait(node: Node) -> None:
    with committing_peer(store_answers=[0xA700]) as peer, jobs_of(node.archive) as service:
        job = submit(service, peer)
        asked = peer.wait_until_asked()
        waiting = asleep(service, job)
        assert (waiting.done, waiting.failed, waiting.left) == (0, 1, 2)
        assert uids(asked) == peer.stored
        peer.send_report(("127.0.0.1", node.port), report(asked)[1])
        failed = wait(service, job)
        assert (failed.state, failed.done, failed.failed) == (State.FAILED, 2, 1)
        assert failed.reason.startswith("1 of 3 objects were not delivered: ")
        assert len(failed.result["problems"]) == 1

        service.retry(job.id)
        again = peer.wait_until_asked(2)
        assert uids(again) == peer.stored[2:]
        peer.send_report(("127.0.0.1", node.port), report(again)[1])
        ended = wait(service, job)
        assert (ended.state, ended.done, ended.failed) == (State.DONE, 3, 0)


def test_a_peer_that_is_down_when_it_is_to_be_asked_is_asked_later(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    is_down = True

    def ask_later(peer: Peer, question: Question, **options: Any) -> None:
        nonlocal is_down
        if is_down:
            is_down = False
            raise PeerError(PeerErrorKind.UNREACHABLE, peer, "cannot be reached")
        ask(peer, question, **options)

    monkeypatch.setattr("lfscp.jobs.tasks.committing.ask", ask_later)
    with committing_peer(reports_here=True) as peer:
        with jobs_of(node.archive, jobs={"retry_delay_s": 0.01}) as service:
            ended = wait(service, submit(service, peer))
        assert (ended.state, ended.done, ended.attempts) == (State.DONE, 3, 2)
        assert (len(peer.stored), len(peer.asked)) == (3, 1)


@pytest.mark.usefixtures("stay")
def test_a_waiting_job_that_is_tried_again_at_once_asks_anew(node: Node) -> None:
    with committing_peer() as peer, jobs_of(node.archive) as service:
        job = submit(service, peer)
        first = peer.wait_until_asked()
        asleep(service, job)
        service.retry(job.id)
        second = peer.wait_until_asked(2)
        assert uids(second) == uids(first)
        assert second.TransactionUID != first.TransactionUID
        wait(service, job, lambda each: each.state is State.SLEEPING and each.attempts == 2)
        assert service.pause(job.id).state is State.PAUSED
        for each in (first, second):
            peer.send_report(("127.0.0.1", node.port), report(each)[1])
        assert service.job(job.id).state is State.PAUSED
        service.resume(job.id)
        ended = wait(service, job)
        assert (ended.state, ended.done) == (State.DONE, 3)
        assert (len(peer.stored), len(peer.asked)) == (3, 2)


def test_more_than_a_request_takes_goes_in_portions(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lfscp.scu.commit.MAX_INSTANCES", 2)
    with committing_peer(reports_here=True) as peer, jobs_of(node.archive) as service:
        ended = wait(service, submit(service, peer))
        assert (ended.state, ended.done) == (State.DONE, 3)
        assert [len(uids(each)) for each in peer.asked] == [2, 1]
        assert len({each.TransactionUID for each in peer.asked}) == 2


def test_a_job_that_sends_files_is_committed_to_as_well(node: Node, tmp_path: Path) -> None:
    folder = tmp_path / "files"
    folder.mkdir()
    dataset = image(study=STUDY, series=f"{STUDY}.2")
    dataset.save_as(folder / "one.dcm", enforce_file_format=True)
    (folder / "note.txt").write_text("no object")
    with committing_peer(reports_here=True) as peer:
        with jobs_of(node.archive, web={"roots": [str(folder)]}) as service:
            ended = wait(service, submit(service, peer, studies=[], paths=[str(folder)]))
        assert (ended.state, ended.done) == (State.DONE, 1)
        assert ended.reason == "1 passed over, see problems"
        assert peer.stored == [dataset.SOPInstanceUID]


def test_commit_is_true_or_false(node: Node) -> None:
    with jobs_of(node.archive) as service:
        request = JobRequest("send", Peer("X", "h", 1), {"studies": ["1.2"], "commit": "yes"})
        with pytest.raises(InvalidRequestError, match="commit"):
            service.submit(request)
