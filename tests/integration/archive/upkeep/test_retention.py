"""Retention: the oldest studies go, whole and first; protected and growing ones never."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy import insert, update

from lfscp.archive.archive import Archive
from lfscp.archive.errors import StudyProtectedError
from lfscp.archive.index.clock import Clock
from lfscp.archive.index.clock_readings import DAY_MS, wall_ms
from lfscp.archive.index.protection import protect, protected_among, unprotect
from lfscp.archive.index.tables.schema import study as study_table
from lfscp.archive.index.tables.workflow_tables import committed_study
from lfscp.archive.upkeep.check import check
from lfscp.archive.upkeep.retention import (
    Candidate,
    Limits,
    Retention,
    candidates,
    recycle,
    usage,
)
from lfscp.archive.workflow.commitment.committed_studies import note_studies
from lfscp.archive.workflow.commitment.references import Reference
from lfscp.dicom.values.attributes import Level
from tests.support.archive_datasets import received

NOW = wall_ms()


def store(archive: Archive, study: int, days_ago: float, instances: int = 3) -> str:
    """A study whose last instance came some days ago."""
    uid = f"1.2.{study}"
    for number in range(instances):
        archive.store(
            received(
                1000 * study + number, StudyInstanceUID=uid, SeriesInstanceUID=f"{uid}.{number % 2}"
            )
        )
    with archive.index.writing() as connection:
        wanted = update(study_table).where(study_table.c.study_instance_uid == uid)
        connection.execute(wanted.values(updated_at=NOW - int(days_ago * DAY_MS)))
    return uid


@pytest.fixture
def archive(tmp_path: Path, open_archive: Callable[..., Archive]) -> Iterator[Archive]:
    """Five studies; the lower its number the older a study is, except for the third."""
    with open_archive(tmp_path) as opened:
        for study, days in ((1, 9), (2, 8), (3, 10), (4, 6), (5, 5)):
            store(opened, study, days)
        yield opened


def studies(archive: Archive) -> list[str]:
    with archive.index.engine.connect() as connection:
        text = "SELECT study_instance_uid FROM study ORDER BY 1"
        return list(connection.exec_driver_sql(text).scalars())


def run(archive: Archive, **limits: int) -> list[str]:
    """The studies that went, in their order; index and objects agree afterwards."""
    gone: list[str] = []
    retention = Retention(archive, Limits(**limits), lambda study, _: gone.append(study.study_uid))
    assert retention.run() == len(gone)
    assert list(check(archive)) == []
    return gone


def test_without_limits_nothing_goes(archive: Archive) -> None:
    assert run(archive) == []
    assert not Limits().is_any


def test_too_many_studies(archive: Archive) -> None:
    assert run(archive, max_studies=3) == ["1.2.3", "1.2.1"]
    assert studies(archive) == ["1.2.2", "1.2.4", "1.2.5"]
    assert run(archive, max_studies=3) == []


def test_too_old(archive: Archive) -> None:
    assert run(archive, max_age_ms=7 * DAY_MS) == ["1.2.3", "1.2.1", "1.2.2"]


def test_too_many_bytes(archive: Archive) -> None:
    each = archive.statistics().size // 5
    assert run(archive, max_bytes=5 * each + 10) == []
    assert run(archive, max_bytes=3 * each + each // 2) == ["1.2.3", "1.2.1"]
    assert archive.statistics().instances == 9


def test_what_came_since_the_last_count_is_added(archive: Archive) -> None:
    each = archive.statistics().size // 5
    gone: list[str] = []
    limits = Limits(max_bytes=5 * each + each // 2)
    retention = Retention(archive, limits, lambda study, _: gone.append(study.study_uid))
    assert retention.run() == 0
    store(archive, 6, 1)
    archive.delete(Level.STUDY, "1.2.3")  # which is not known until all is counted again
    assert retention.run() == 0
    store(archive, 7, 1)
    assert retention.run() == 1
    assert gone == ["1.2.1"]


def test_a_protected_study_stays_and_the_next_one_goes(archive: Archive) -> None:
    assert protect(archive.index, "1.2.3")
    assert protect(archive.index, "1.2.3")
    assert not protect(archive.index, "1.9")
    assert run(archive, max_studies=4) == ["1.2.1"]
    assert run(archive, max_age_ms=1) == ["1.2.2", "1.2.4", "1.2.5"]
    with archive.index.engine.connect() as connection:
        assert protected_among(connection, ["1.2.3", "1.2.4"]) == {"1.2.3"}
    assert unprotect(archive.index, "1.2.3")
    assert not unprotect(archive.index, "1.2.3")
    assert run(archive, max_age_ms=1) == ["1.2.3"]


def committed(archive: Archive, study_uid: str, days_ago: float) -> None:
    """The node has committed to a study some days ago."""
    values = {"study_instance_uid": study_uid, "committed_at": NOW - int(days_ago * DAY_MS)}
    with archive.index.writing() as connection:
        connection.execute(insert(committed_study).values(values))


def test_a_study_that_the_node_committed_to_stays_for_a_while(archive: Archive) -> None:
    committed(archive, "1.2.3", 3)
    committed(archive, "1.2.1", 1)
    assert run(archive, max_studies=3, committed_ms=2 * DAY_MS) == ["1.2.3", "1.2.2"]
    assert run(archive, max_studies=2) == ["1.2.1"]  # without such a limit


def test_a_study_that_is_committed_to_meanwhile_stays(archive: Archive) -> None:
    limits = Limits(max_studies=4, committed_ms=DAY_MS)
    with archive.index.engine.connect() as connection:
        [candidate] = candidates(connection, limits, usage(connection), wall_ms())
    assert candidate.study_uid == "1.2.3"
    note_studies(archive.index, [Reference("1.2", "1.2.3.1.3000")])
    assert recycle(archive, candidate, limits, wall_ms()) == 0
    assert archive.delete(Level.STUDY, "1.2.3") == 3  # an administrator may


def test_a_protected_study_is_not_deleted_by_hand_and_gone_for_good_once_it_may_be(
    archive: Archive,
) -> None:
    protect(archive.index, "1.2.3")
    with pytest.raises(StudyProtectedError):
        archive.delete(Level.STUDY, "1.2.3")
    assert run(archive, max_studies=4) == ["1.2.1"]

    unprotect(archive.index, "1.2.3")
    assert archive.delete(Level.STUDY, "1.2.3") == 3


def test_a_study_that_receives_is_not_taken(archive: Archive) -> None:
    archive.store(received(3999, StudyInstanceUID="1.2.3", SeriesInstanceUID="1.2.3.9"))
    assert run(archive, max_studies=4) == ["1.2.1"]


@pytest.mark.parametrize("meanwhile", ["protected", "added to", "deleted"])
def test_a_study_that_changed_since_it_was_looked_for_stays(
    archive: Archive, meanwhile: str
) -> None:
    limits = Limits(max_studies=4)
    with archive.index.engine.connect() as connection:
        (candidate,) = candidates(connection, limits, usage(connection), NOW)
    assert candidate.study_uid == "1.2.3"
    assert (candidate.instances, candidate.reason) == (3, "studies")
    if meanwhile == "protected":
        protect(archive.index, "1.2.3")
    elif meanwhile == "deleted":
        archive.delete(Level.STUDY, "1.2.3")
    else:
        archive.store(received(3999, StudyInstanceUID="1.2.3", SeriesInstanceUID="1.2.3.9"))
    assert recycle(archive, candidate, limits, NOW) == 0


def test_stores_go_on_and_nothing_of_theirs_is_lost(archive: Archive) -> None:
    for study in range(10, 25):
        store(archive, study, 20)
    is_over = threading.Event()
    stored: list[str] = []

    def go_on() -> None:
        for number in range(100_000, 101_000):
            uids = {"StudyInstanceUID": "1.2.99", "SeriesInstanceUID": f"1.2.99.{number % 3}"}
            archive.store(received(number, **uids))
            stored.append(f"1.2.3.1.{number}")
            if is_over.is_set():
                return

    thread = threading.Thread(target=go_on)
    thread.start()
    try:
        assert Retention(archive, Limits(max_age_ms=15 * DAY_MS), lambda *_: None).run() == 15
    finally:
        is_over.set()
        thread.join()
    assert list(check(archive)) == []
    assert len(stored) > 1
    found = archive.select(Level.STUDY, {Level.STUDY: ["1.2.99"]})
    assert [each.sop_instance_uid for each in found] == stored


def test_a_large_number_of_studies_is_looked_through(tmp_path: Path) -> None:
    """More than are looked for at a time, with protected ones among them."""
    with Archive.open(tmp_path) as archive:
        for study in range(130):
            store(archive, study, 300 - study, instances=1)
            if study % 2:
                protect(archive.index, f"1.2.{study}")
        assert run(archive, max_studies=1) == [f"1.2.{study}" for study in range(0, 130, 2)]


def test_a_clock_that_was_set_makes_no_study_old(archive: Archive) -> None:
    times = {"of day": NOW / 1000, "elapsed": 0.0}
    gone: list[Candidate] = []
    clock = Clock(lambda: times["of day"], lambda: times["elapsed"], lambda: True)
    limits = Limits(max_age_ms=11 * DAY_MS)
    retention = Retention(archive, limits, lambda study, _: gone.append(study), clock)
    times["of day"] += 1e8  # three years in no time
    assert retention.run() == 0
    times["elapsed"] += 60
    times["of day"] += 60
    assert retention.run() == 0
    retention = Retention(archive, Limits(max_age_ms=7 * DAY_MS), lambda *_: None, clock)
    assert retention.run() == 3  # those that were old before


def test_a_study_that_receives_is_known_to_after_the_clock_was_put_back(
    archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    uids = {"StudyInstanceUID": "1.2.6", "SeriesInstanceUID": "1.2.6.1"}
    with monkeypatch.context() as patched:
        patched.setattr(time, "time_ns", lambda: (NOW + DAY_MS) * 1_000_000)
        archive.store(received(6000, **uids))
    archive.store(received(6001, **uids))
    with archive.index.engine.connect() as connection:
        text = "SELECT updated_at FROM study WHERE study_instance_uid = '1.2.6'"
        assert connection.exec_driver_sql(text).scalar() < NOW + DAY_MS
