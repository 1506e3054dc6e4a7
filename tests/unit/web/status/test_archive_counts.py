"""The archive is counted once for all who ask, and not again before that costs little."""

import threading

import pytest

from lfscp.archive.archive import Statistics
from lfscp.archive.errors import ArchiveError
from lfscp.web.status import archive_counts
from lfscp.web.status.archive_counts import ArchiveCounts


class Archive:
    """Counts how often it was counted; each time takes `takes_s` of the test's clock."""

    def __init__(self):
        self.now = 100.0
        self.takes_s = 0.0
        self.times = 0
        self.may_end = threading.Event()
        self.may_end.set()

    def statistics(self):
        self.times += 1 if self.may_end.wait(3) else 100
        self.now += self.takes_s
        return Statistics(0, 0, 0, self.times, 0)


@pytest.fixture
def archive(monkeypatch):
    archive = Archive()
    monkeypatch.setattr(archive_counts.time, "monotonic", lambda: archive.now)
    return archive


def test_what_was_counted_is_good_for_some_seconds(archive):
    counts = ArchiveCounts(archive)
    assert [counts.now().instances for _ in range(3)] == [1, 1, 1]
    archive.now += archive_counts.COUNTED_FOR_S
    assert counts.now().instances == 2


def test_counting_takes_a_hundredth_of_the_time_at_most(archive):
    counts = ArchiveCounts(archive)
    archive.takes_s = 2.0
    assert counts.now().instances == 1
    archive.now += 199.0
    assert counts.now().instances == 1
    archive.now += 2.0
    assert counts.now().instances == 2


def until_counted(counts):
    counts._behind.join(60)


def test_a_quick_count_is_waited_for(archive):
    counts = ArchiveCounts(archive)
    assert counts.lately().statistics.instances == 1
    archive.now += archive_counts.COUNTED_FOR_S
    assert counts.lately() == (counts.now(), counts._at_ms, False)
    assert counts.now().instances == 2


def test_a_slow_count_is_made_behind_and_the_last_one_shown_as_old(archive, monkeypatch):
    monkeypatch.setattr(archive_counts, "FIRST_WAIT_S", 60.0)
    counts = ArchiveCounts(archive)
    archive.takes_s = 2.0
    counts.now()
    archive.now += 201.0
    archive.may_end.clear()
    seen = [counts.lately() for _ in range(3)]
    archive.may_end.set()
    until_counted(counts)
    assert [(each.statistics.instances, each.is_old) for each in seen] == [(1, True)] * 3
    after = counts.lately()
    assert (after.statistics.instances, after.is_old) == (2, False)
    assert archive.times == 2


def test_the_first_count_may_be_missing(archive, monkeypatch):
    monkeypatch.setattr(archive_counts, "FIRST_WAIT_S", 0.0)
    counts = ArchiveCounts(archive)
    archive.may_end.clear()
    assert counts.lately() is None
    archive.may_end.set()
    until_counted(counts)
    assert counts.lately().statistics.instances == 1


def test_a_count_that_fails_is_tried_again(archive, monkeypatch):
    counts = ArchiveCounts(archive)

    def fail():
        raise ArchiveError("read the index", "it is away")

    with monkeypatch.context() as failing:
        failing.setattr(archive, "statistics", fail)
        assert counts.lately() is None
    assert counts.lately().statistics.instances == 1


def test_without_a_thread_the_last_count_is_shown(archive, monkeypatch):
    def start(_):
        raise RuntimeError("can't start new thread")

    counts = ArchiveCounts(archive)
    counts.now()
    archive.now += archive_counts.COUNTED_FOR_S
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", start)
        assert counts.lately().statistics.instances == 1
        assert ArchiveCounts(archive).lately() is None
    assert counts.lately().statistics.instances == 2
