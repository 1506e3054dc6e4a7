"""A clock that is wrong makes nothing old: neither at the node's start nor while it runs."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import select

from lfscp.archive.archive import Archive
from lfscp.archive.index.clock import Clock
from lfscp.archive.index.clock_readings import (
    DAY_MS,
    HOUR_MS,
    MAX_OFF_MS,
    STEADY_MS,
    Kept,
    Reading,
    doubt_of,
    look_at,
    read_kept,
    wall_ms,
)
from lfscp.archive.index.tables.dialects import now_ms
from lfscp.archive.upkeep.retention import Limits, Retention
from tests.support.archive_datasets import received

START = 1_800_000_000_000
MINUTE_MS = 60_000


class Machine:
    """A machine whose clock somebody sets, and that is switched off."""

    def __init__(self) -> None:
        self.day_ms = self.true_ms = START
        self.up_ms = 0
        self.boots = 0
        self.is_synchronised = False

    def run(self, ms: int) -> None:
        self.day_ms += ms
        self.true_ms += ms
        self.up_ms += ms

    def be_off(self, ms: int) -> None:
        self.run(ms)
        self.up_ms = 0
        self.boots += 1

    def reading(self) -> Reading:
        return Reading(self.day_ms, f"boot {self.boots}", self.up_ms)


class Looks:
    """Looks at a machine's clock, from its first start."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.kept = Kept(machine.reading(), machine.day_ms)

    def look(self) -> bool:
        """Look; whether the clock is trusted."""
        synchronised = self.machine.is_synchronised
        reading = self.machine.reading()
        self.kept = look_at(self.kept, reading, MAX_OFF_MS, is_synchronised=synchronised)
        return not self.kept.steady_since_ms

    @property
    def old_ms(self) -> int:
        """The time by which something is old."""
        return min(self.kept.trusted_ms, self.kept.seen.day_ms)

    def look_for(self, ms: int) -> bool:
        """Let the machine run, and look every hour."""
        for _ in range(ms // HOUR_MS):
            self.machine.run(HOUR_MS)
            self.look()
        return self.look()


@pytest.fixture
def looks() -> Looks:
    return Looks(Machine())


def test_a_clock_that_goes_is_trusted(looks: Looks) -> None:
    assert looks.look_for(2 * DAY_MS)
    assert looks.old_ms == looks.machine.true_ms


@pytest.mark.parametrize("by", [30 * DAY_MS, -30 * DAY_MS, 11 * MINUTE_MS])
def test_a_clock_that_jumps_is_not_trusted_for_a_week(looks: Looks, by: int) -> None:
    looks.machine.run(HOUR_MS)
    looks.machine.day_ms += by
    assert not looks.look()
    assert looks.old_ms <= looks.machine.true_ms
    assert not looks.look_for(STEADY_MS - 2 * HOUR_MS)
    assert looks.old_ms == min(looks.machine.true_ms, looks.machine.day_ms)
    assert looks.look_for(3 * HOUR_MS)
    assert looks.old_ms == looks.machine.day_ms


def test_a_synchronised_clock_is_trusted_after_an_hour(looks: Looks) -> None:
    looks.machine.is_synchronised = True
    looks.machine.day_ms += 30 * DAY_MS
    assert not looks.look()
    assert looks.look_for(2 * HOUR_MS)


def test_a_clock_that_is_set_right_again_is_trusted_at_once(looks: Looks) -> None:
    looks.machine.day_ms += 30 * DAY_MS
    assert not looks.look()
    looks.machine.run(HOUR_MS)
    looks.machine.day_ms -= 30 * DAY_MS
    assert looks.look()
    assert looks.old_ms == looks.machine.true_ms


def test_a_node_that_was_stopped_while_its_machine_ran_knows_how_long(looks: Looks) -> None:
    looks.machine.run(60 * DAY_MS)
    assert looks.look()
    looks.machine.run(60 * DAY_MS)
    looks.machine.day_ms += DAY_MS
    assert not looks.look()
    assert looks.old_ms == looks.machine.true_ms


def test_a_machine_that_was_off_for_a_weekend_is_believed_and_for_a_month_in_a_week(
    looks: Looks,
) -> None:
    looks.machine.be_off(2 * DAY_MS)
    assert looks.look()
    before = looks.machine.true_ms
    looks.machine.be_off(30 * DAY_MS)
    assert not looks.look()
    assert looks.old_ms == before
    assert not looks.look_for(DAY_MS)
    assert looks.old_ms == before + DAY_MS  # retention goes on, later
    assert looks.look_for(STEADY_MS)
    assert looks.old_ms == looks.machine.true_ms


def test_a_machine_that_starts_with_its_clock_behind_is_not_believed(looks: Looks) -> None:
    looks.machine.be_off(HOUR_MS)
    looks.machine.day_ms -= 365 * DAY_MS
    assert not looks.look()
    looks.machine.run(HOUR_MS)
    looks.machine.day_ms += 365 * DAY_MS
    looks.look()
    assert looks.old_ms <= looks.machine.true_ms


@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("run"), st.integers(0, 12 * HOUR_MS)),
            st.tuples(st.just("set"), st.integers(-400 * DAY_MS, 400 * DAY_MS)),
        ),
        max_size=20,
    )
)
def test_whatever_is_done_to_the_clock_nothing_is_older_than_it_is(
    deeds: list[tuple[str, int]],
) -> None:
    """As long as the machine runs, and no wrong time is left alone for a week."""
    looks = Looks(Machine())
    run = sum(ms for what, ms in deeds if what == "run")
    if run >= STEADY_MS:
        return
    slewed = 0
    for what, ms in deeds:
        if what == "run":
            looks.machine.run(ms)
        else:
            looks.machine.day_ms += ms
            slewed += 10 * MINUTE_MS  # so much passes unseen each time
        looks.look()
        assert looks.old_ms <= looks.machine.true_ms + slewed


# With an index


class Times:
    """What a Clock is given instead of the machine's."""

    def __init__(self) -> None:
        self.day = 1.9e9
        self.up = 100.0

    def clock(self, archive: Archive) -> Clock:
        return Clock(lambda: self.day, lambda: self.up, lambda: False, index=archive.index)


def test_a_start_with_the_clock_ahead_deletes_nothing(tmp_path: Path) -> None:
    open_archive = Archive.open
    ahead = 30 * 86_400
    gone: list[str] = []
    limits = Limits(max_age_ms=7 * DAY_MS, quiet_ms=1)

    def retain(archive: Archive, by_s: float) -> int:
        clock = Clock(lambda: time.time() + by_s, synchronised=lambda: False, index=archive.index)
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(
                "lfscp.archive.upkeep.retention.wall_ms", lambda: int((time.time() + by_s) * 1000)
            )
            return Retention(archive, limits, lambda *_: gone.append(""), clock).run()

    with open_archive(tmp_path) as archive:
        archive.store(received(1))
    with open_archive(tmp_path) as archive:
        assert retain(archive, ahead) == 0  # nobody has ever looked: the newest object tells
        assert "not trusted" in archive.clock_doubt()
    with open_archive(tmp_path) as archive:
        assert retain(archive, ahead) == 0
        assert retain(archive, 0) == 0
        assert archive.clock_doubt() == ""
        assert retain(archive, ahead) == 0
        Clock(lambda: time.time() + ahead, index=archive.index).confirm()
        assert archive.clock_doubt() == ""
        assert retain(archive, ahead) == 1


def test_the_log_says_what_a_clock_was_held_against(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    times = Times()
    times.day = time.time() + 90 * 86_400
    with Archive.open(tmp_path) as archive:
        archive.store(received(1))
        times.clock(archive).look()  # idle since it was made by a version that never looked
        times.day += 90 * 86_400
        times.clock(archive).look()
    first, second = [line for line in capfd.readouterr().err.splitlines() if "jumped" in line]
    assert 'since="the newest object came"' in first
    assert 'since="the last look"' in second


def test_what_comes_while_the_clock_is_behind_is_not_old_when_it_is_set_right(
    tmp_path: Path, open_archive: Callable[..., Archive], monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_archive(tmp_path) as archive:
        archive.store(received(1))
        archive.clock().look()
    with monkeypatch.context() as patched:
        patched.setattr(time, "time_ns", lambda: 0)  # a battery that is empty
        with open_archive(tmp_path) as archive:
            archive.store(received(2, StudyInstanceUID="1.2.9", SeriesInstanceUID="1.2.9.1"))
    with open_archive(tmp_path) as archive:
        limits = Limits(max_age_ms=7 * DAY_MS, quiet_ms=1)
        assert Retention(archive, limits, lambda *_: None).run() == 0
        assert archive.statistics().studies == 2


def test_nodes_that_share_an_index_go_by_its_server_s_clock_too(
    tmp_path: Path, postgresql_server: Any, migrated_template: Any
) -> None:
    url = postgresql_server.url(postgresql_server.new_database(migrated_template))
    with Archive.open(tmp_path, index_url=url) as archive:
        ahead = Clock(lambda: time.time() + 30 * 86_400, index=archive.index, node="this")
        ahead.confirm()
        before = time.time() * 1000
        assert abs(ahead.look() - before) < HOUR_MS
        assert abs(ahead.peek() - before) < HOUR_MS


def test_an_index_keeps_what_was_seen(tmp_path: Path) -> None:
    times = Times()
    with Archive.open(tmp_path) as archive:
        clock = times.clock(archive)
        clock.confirm()
        times.day += 60
        times.up += 60
        assert clock.look() == int(times.day * 1000)
        assert clock.peek() == int(times.day * 1000)
        with archive.index.engine.connect() as connection:
            kept = read_kept(connection, "clock")
    assert kept is not None
    assert (kept.seen.day_ms, kept.seen.up_ms) == (int(times.day * 1000), 160_000)
    assert doubt_of(kept) == ""
    doubted = dataclasses.replace(kept, steady_since_ms=int(times.day * 1000))
    assert "2030-" in doubt_of(doubted)


def test_the_databases_time_is_that_of_its_machine_to_the_millisecond(
    open_archive: Callable[..., Archive], tmp_path: Path
) -> None:
    with open_archive(tmp_path) as archive, archive.index.engine.connect() as connection:
        for _ in range(100):
            before = wall_ms()
            told = connection.execute(select(now_ms())).scalar_one()
            assert before <= told <= wall_ms() + 1  # PostgreSQL rounds
