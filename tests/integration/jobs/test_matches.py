"""What a query to a peer keeps: weighed, outside memory, read match by match."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydicom.dataset import Dataset

from lfscp.archive.archive import Archive
from lfscp.config import Settings
from lfscp.jobs.control import MAX_WORDS, Control
from lfscp.jobs.matches import EncodedJSON, Matches, each_match
from lfscp.jobs.model import SHORT_RESULT, Job, State, is_result_apart
from lfscp.jobs.request import JobRequest
from lfscp.jobs.service import JobService
from lfscp.observe import metrics
from lfscp.scu.peer import Peer
from tests.support import dicom_peer as peer
from tests.support.scripted_peer import (
    ACCEPTED,
    C_FIND_RSP,
    MATCH,
    RELEASED,
    SUCCESS,
    found,
    response,
    scripted,
)
from tests.support.scripted_peer import value as element

LAST = peer.message(1, response(C_FIND_RSP, peer.STUDY_ROOT_FIND, SUCCESS)) + RELEASED
LARGE = MATCH + element(0x40, 0xA160, b"x" * 200_000)
PIECES = (1, 7, 100, 1 << 20)


def _over_budget() -> float:
    ((_, count),) = metrics.JOBS_OVER_BUDGET.samples(metrics.BOARD.sums())
    return count


def match(uid: str, text: str = "") -> Dataset:
    made = Dataset()
    made.StudyInstanceUID = uid
    made.TextValue = text
    return made


@pytest.fixture
def kept(tmp_path: Path) -> Iterator[Matches]:
    matches = Matches(tmp_path, 100_000)
    yield matches
    matches.close()


def test_what_is_too_much_is_not_kept(kept: Matches) -> None:
    added = [kept.add(match(f"1.2.{number}", "x" * 30_000)) for number in range(5)]
    assert added == [True, True, True, False, False]
    assert (kept.count, kept.is_full) == (3, True)


def test_a_few_come_as_they_are(kept: Matches) -> None:
    kept.add(match("1.2.3", "Größe\n"))
    assert kept.result() == [{"StudyInstanceUID": "1.2.3", "TextValue": "Größe\n"}]


def test_nothing_is_an_empty_list(kept: Matches) -> None:
    assert kept.result() == []


@pytest.mark.parametrize("size", PIECES)
def test_many_come_one_by_one_whatever_the_pieces(kept: Matches, size: int) -> None:
    for number in range(900):
        kept.add(match(f"1.2.{number}", '"}],\n[{' * 4))
    encoded = kept.result()
    assert isinstance(encoded, EncodedJSON)
    assert len(json.loads(encoded)) == 900
    pieces = (encoded[at : at + size] for at in range(0, len(encoded), size))
    assert list(each_match(pieces)) == json.loads(encoded)


@pytest.mark.parametrize("text", ["[]", "null", '[{"a": "b"}, {"c": ["d"]}]'])
def test_results_of_earlier_versions_are_read(text: str) -> None:
    assert list(each_match([text])) == (json.loads(text) or [])


def _ended(service: JobService, peer_: Peer, **parameters: Any) -> Job:
    with service.subscribe() as news:
        asked = {"keys": {"PatientName": ""}, **parameters}
        job = service.submit(JobRequest("find", peer_, asked))
        while not (job := service.job(job.id)).state.is_end:
            news.next(1)
    return job


@pytest.fixture
def service(tmp_path: Path) -> Iterator[JobService]:
    folder = tmp_path / "data"
    settings = Settings.model_validate({"data_dir": folder, "budgets": {"job_mb": 1}})
    with Archive.open(folder, durability="os") as archive:
        service = JobService(archive, settings)
        service.start()
        yield service
        service.terminate(5)


def test_a_query_is_cut_at_its_budget_and_says_so(service: JobService) -> None:
    before = _over_budget()
    with scripted(ACCEPTED + found(LARGE) * 9 + LAST) as asked:
        job = _ended(service, asked)
    assert (job.state, job.done) == (State.DONE, 4)
    assert job.reason == (
        "cut off: only the first 4 matches, more would take over 1 MB (budgets.job_mb)"
    )
    assert _over_budget() == before + 1
    assert [each["StudyInstanceUID"] for each in service.matches(job)] == ["1.2.3"] * 4


def test_a_long_result_does_not_come_with_its_job(service: JobService) -> None:
    with scripted(ACCEPTED + found(LARGE) * 3 + LAST) as asked:
        job = _ended(service, asked)
    assert is_result_apart(job)
    assert [each.result for each in service.jobs()] == [None]
    encoded = "".join(service.result(job))
    assert len(encoded) > SHORT_RESULT
    assert len(json.loads(encoded)) == job.done == 3


def test_a_short_result_does(service: JobService) -> None:
    with scripted(ACCEPTED + found() * 3 + LAST) as asked:
        job = _ended(service, asked)
    assert len(job.result) == 3
    assert service.jobs()[0].result == job.result == list(service.matches(job))


def test_what_was_found_before_the_peer_failed_is_kept(service: JobService) -> None:
    refused = peer.message(1, response(C_FIND_RSP, peer.STUDY_ROOT_FIND, 0xA700))
    with scripted(ACCEPTED + found() * 2 + refused + RELEASED) as asked:
        job = _ended(service, asked)
    assert (job.state, len(job.result)) == (State.FAILED, 2)


def test_a_peer_has_its_say_in_a_problem_but_not_without_end() -> None:
    control = Control(lambda *_: None)
    control.problem("1.2\x1b[2J", "no\r\n\u202e" + "x" * 100_000)
    (problem,) = control.progress.problems
    assert all(text.isprintable() for text in problem.values())
    assert len(problem["reason"]) == MAX_WORDS


def test_a_retrieve_of_studies_without_end_fails(service: JobService) -> None:
    studies = b"".join(
        found(element(0x20, 0xD, f"1.2.{number}".encode())) for number in range(1000, 5000)
    )
    with scripted(ACCEPTED + studies + LAST) as asked, service.subscribe() as news:
        job = service.submit(JobRequest("retrieve", asked, {"keys": {"PatientName": "*"}}))
        while not (job := service.job(job.id)).state.is_end:
            news.next(1)
    assert (job.state, job.done) == (State.FAILED, 0)
    assert job.reason.endswith("sent more than 1 MB of matches, ask for less")
