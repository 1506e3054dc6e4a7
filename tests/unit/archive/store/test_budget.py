"""A budget of bytes: who may go, who waits, who is refused, and what ends a wait."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

from lfscp.archive.store.budget import Budget, BudgetExceededError
from lfscp.observe.counters import Board, Counter, Gauge


class GivenUpError(Exception):
    """Raised by whoever waits no longer."""


def nothing() -> None:
    """Nothing to look for."""


class Watched:
    """A budget with what it counts."""

    def __init__(self, limit: int, **options: Any) -> None:
        board = Board()
        self.spent = Gauge(board, "spent", "")
        self.waits = Counter(board, "waits_total", "")
        self.refusals = Counter(board, "refusals_total", "")
        self.board = board
        self.budget = Budget(
            limit,
            "budgets.some_mb",
            spent=self.spent,
            waits=self.waits.of(),
            refusals=self.refusals.of(),
            **options,
        )

    def counts(self) -> tuple[float, float, float]:
        sums = self.board.sums()
        waits, refusals = (
            next(iter(each.samples(sums)))[1] for each in (self.waits, self.refusals)
        )
        return self.spent.total(sums), waits, refusals


def waiting(budget: Budget, size: int, then: Callable[[], None]) -> threading.Thread:
    """A thread that wants so many bytes; it is in the queue when this returns."""
    asked = threading.Event()

    def run() -> None:
        with budget.reserve(size, asked.set):
            then()

    thread = threading.Thread(target=run)
    thread.start()
    assert asked.wait(10)
    return thread


def test_bytes_are_counted_while_they_are_held() -> None:
    watched = Watched(100)
    with watched.budget.reserve(60, nothing), watched.budget.reserve(40, nothing):
        assert watched.counts() == (100, 0, 0)
    assert watched.counts() == (0, 0, 0)


def test_more_than_the_budget_is_refused_at_once_with_the_setting_to_raise() -> None:
    watched = Watched(100 << 20)
    with pytest.raises(BudgetExceededError, match=r"needs 101 MB, budgets\.some_mb is 100"):
        watched.budget.take(101 << 20, nothing, 0)
    assert watched.counts() == (0, 0, 1)


def test_nobody_overtakes_a_larger_one_that_came_first() -> None:
    watched = Watched(100)
    went: list[str] = []
    with watched.budget.reserve(60, nothing):
        large = waiting(watched.budget, 100, lambda: went.append("large"))
        small = waiting(watched.budget, 10, lambda: went.append("small"))
        assert went == []
    large.join(10)
    small.join(10)
    assert went == ["large", "small"]
    assert watched.counts() == (0, 2, 0)


def test_who_fits_goes_where_others_may_hold_theirs_for_long() -> None:
    watched = Watched(100, in_order=False)
    with watched.budget.reserve(60, nothing):
        large = waiting(watched.budget, 100, nothing)
        with watched.budget.reserve(10, nothing):
            pass
        assert large.is_alive()
    large.join(10)
    assert not large.is_alive()


def test_who_gives_up_leaves_the_queue() -> None:
    watched = Watched(100)

    def give_up() -> None:
        raise GivenUpError

    with watched.budget.reserve(60, nothing):
        with pytest.raises(GivenUpError):
            watched.budget.take(100, give_up, 60)
        with watched.budget.reserve(40, nothing):
            assert watched.counts()[0] == 100
    assert not watched.budget.waiting


def test_who_has_waited_long_enough_is_refused() -> None:
    watched = Watched(100 << 20)
    with (
        watched.budget.reserve(1 << 20, nothing),
        pytest.raises(BudgetExceededError, match="100 MB were not free within 0 s"),
    ):
        watched.budget.take(100 << 20, nothing, 0)
    assert watched.counts() == (0, 1, 1)


def test_who_gives_way_goes_behind_those_who_wait() -> None:
    watched = Watched(100)
    went: list[str] = []
    with watched.budget.reserve(100, nothing) as mine:
        other = waiting(watched.budget, 100, lambda: went.append("other"))
        mine.give_way()
        went.append("I")
        assert watched.counts()[0] == 100
    other.join(10)
    assert went == ["other", "I"]
    assert watched.counts()[0] == 0


def test_many_at_once_never_hold_more_than_there_is() -> None:
    watched = Watched(100)
    most: list[float] = []

    def spend() -> None:
        for size in (100, 30, 60, 10):
            with watched.budget.reserve(size, nothing) as mine:
                most.append(watched.budget.in_use)
                mine.give_way()

    threads = [threading.Thread(target=spend) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert max(most) <= 100
    assert watched.counts()[0] == 0
