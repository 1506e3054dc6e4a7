"""Requests to commit in the index: asked anew, settled, forgotten, and the jobs that they wake."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy import insert, select

from lfscp.archive.archive import Archive
from lfscp.archive.index.tables.job_tables import job
from lfscp.archive.workflow.commitment.references import Failure, Reference
from lfscp.archive.workflow.commitment.requests import (
    CommitmentRequests,
    RequestState,
    Taken,
)
from tests.support.archive_datasets import CT_IMAGE

REFERENCES = [Reference(CT_IMAGE, f"1.2.3.{number}") for number in range(3)]
UIDS = [uid for _, uid in REFERENCES]
LATER = "2026-11-29T00:00:00.000Z"


@pytest.fixture
def archive(open_archive: Callable[..., Archive], tmp_path: Path) -> Iterator[Archive]:
    with open_archive(tmp_path, durability="os") as opened:
        yield opened


@pytest.fixture
def requests(archive: Archive) -> CommitmentRequests:
    return CommitmentRequests(archive.index)


def put_job(archive: Archive, job_id: str, state: str) -> None:
    with archive.index.writing() as connection:
        row = {"id": job_id, "state": state, "next_attempt_at": LATER}
        connection.execute(insert(job).values(**row))


def next_attempt(archive: Archive, job_id: str) -> str:
    with archive.index.engine.connect() as connection:
        wanted = select(job.c.next_attempt_at).where(job.c.id == job_id)
        return str(connection.execute(wanted).scalar_one())


def test_each_portion_has_a_transaction_of_its_own(requests: CommitmentRequests) -> None:
    uids = requests.add("PACS", [REFERENCES[:2], REFERENCES[2:]], "a job")
    assert len(set(uids)) == 2
    found = requests.of_job("a job")
    assert {len(each.references) for each in found} == {1, 2}
    assert {each.state for each in found} == {RequestState.ASKING}
    assert all(each.is_open and each.failures is None for each in found)


def test_what_is_asked_again_has_a_new_transaction_uid(requests: CommitmentRequests) -> None:
    [old] = requests.add("PACS", [REFERENCES], "a job")
    new = requests.renew(old)
    requests.asked(new)
    [found] = [each for each in requests.of_job("a job") if each.is_open]
    assert (found.transaction_uid, found.state) == (new, RequestState.WAITING)
    # The peer may have taken the old one, and must not report on it for ever.
    assert requests.report(old, "PACS", UIDS, []) is Taken.KEPT
    assert requests.of_job("a job")[0].committed == UIDS


@pytest.mark.parametrize(("state", "is_woken"), [("sleeping", True), ("paused", False)])
def test_a_report_wakes_its_job_if_that_sleeps(
    archive: Archive, requests: CommitmentRequests, state: str, is_woken: bool
) -> None:
    put_job(archive, "a job", state)
    put_job(archive, "another", state)
    [uid] = requests.add("PACS", [REFERENCES], "a job")
    assert requests.report(uid, "PACS", UIDS, []) is Taken.KEPT
    assert (next_attempt(archive, "a job") != LATER) is is_woken
    assert next_attempt(archive, "another") == LATER


def test_a_job_that_falls_asleep_after_its_report_is_woken_then(
    archive: Archive, requests: CommitmentRequests
) -> None:
    [uid] = requests.add("PACS", [REFERENCES], "a job")
    put_job(archive, "a job", "sleeping")
    requests.wake("a job")
    assert next_attempt(archive, "a job") == LATER  # there is no report yet
    requests.report(uid, "PACS", UIDS, [])
    requests.settle("a job")
    with archive.index.writing() as connection:
        connection.execute(job.update().values(next_attempt_at=LATER))
    requests.wake("a job")
    assert next_attempt(archive, "a job") == LATER  # nobody waits for it any more
    [uid] = requests.add("PACS", [REFERENCES], "a job")
    requests.report(uid, "PACS", UIDS, [])
    with archive.index.writing() as connection:
        connection.execute(job.update().values(next_attempt_at=LATER))
    requests.wake("a job")
    assert next_attempt(archive, "a job") != LATER


def test_a_report_that_comes_after_all_counts_and_wakes_nobody(
    archive: Archive, requests: CommitmentRequests
) -> None:
    put_job(archive, "a job", "sleeping")
    [uid] = requests.add("PACS", [REFERENCES], "a job")
    requests.settle("a job")
    failure = Failure(*REFERENCES[0], 0x0112)
    assert requests.report(uid, "PACS", UIDS[1:], [failure]) is Taken.KEPT
    [found] = requests.of_job("a job")
    assert (found.state, found.failures) == (RequestState.SETTLED, (failure,))
    assert found.committed == UIDS[1:]
    assert next_attempt(archive, "a job") == LATER


def test_an_instance_that_is_in_both_lists_is_not_committed_to(
    requests: CommitmentRequests,
) -> None:
    [uid] = requests.add("PACS", [REFERENCES])
    requests.report(uid, "PACS", UIDS, [Failure(*REFERENCES[0], 0x0110)])
    found = requests.get(uid)
    assert found is not None
    assert found.committed == UIDS[1:]


def test_old_requests_are_forgotten_when_their_job_is(
    archive: Archive, requests: CommitmentRequests
) -> None:
    put_job(archive, "a job", "failed")
    requests.add("PACS", [REFERENCES], "a job")
    requests.add("PACS", [REFERENCES], "a job that is gone")
    [command] = requests.add("PACS", [REFERENCES])
    requests.forget_before(1000)
    assert requests.get(command) is not None
    requests.forget_before(1 << 50)
    assert requests.get(command) is None
    assert len(requests.of_job("a job")) == 1
    assert requests.of_job("a job that is gone") == []


def test_a_report_of_another_peer_changes_nothing(requests: CommitmentRequests) -> None:
    [uid] = requests.add("PACS", [REFERENCES], "a job")
    assert requests.report(uid, "OTHER", UIDS, []) is Taken.OTHER_PEER
    assert requests.report("1.2.9", "PACS", UIDS, []) is Taken.UNKNOWN_TRANSACTION
    assert not requests.is_reported(uid)
    assert requests.report(uid, "PACS", UIDS, []) is Taken.KEPT
