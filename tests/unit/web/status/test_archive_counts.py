"""The archive is counted once for all who ask, and not again before that costs little."""

import pytest

from lfscp.archive.archive import Statistics
from lfscp.web.status import archive_counts
from lfscp.web.status.archive_counts import ArchiveCounts


class Archive:
    """Counts how often it was counted; each time takes `takes_s` of the test's clock."""

    def __init__(self):
        self.now = 100.0
        self.takes_s = 0.0
        self.times = 0

    def statistics(self):
        self.times += 1
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
