"""Counts by names that no declaration has: each process finds its own place for each."""

from __future__ import annotations

from lfscp.observe.counters import Board
from lfscp.observe.named_counts import MOST_NAMES, NamedCounts


def test_processes_that_count_names_in_another_order_are_summed() -> None:
    board = Board()
    counts = NamedCounts(board, ("done", "waiting"))
    counts.add("one", "done")
    board.share(3)
    counts.add("one", "done", 2)
    counts.set("one", "waiting", 5)
    board.use(1)
    counts.add("two", "done", 10)
    counts.add("one", "done", 20)
    counts.set("one", "waiting", 3)

    assert counts.of("one") == {"done": 23, "waiting": 8}
    assert counts.of("two") == {"done": 10, "waiting": 0}
    assert counts.of("three") == {"done": 0, "waiting": 0}

    board.use(0)  # a process that takes the place of the first
    counts.add("one", "done")
    counts.set("one", "waiting", 0)
    assert counts.of("one") == {"done": 24, "waiting": 3}


def test_names_beyond_the_last_place_are_not_counted_and_harm_no_other() -> None:
    board = Board()
    counts = NamedCounts(board, ("done",))
    names = [f"plugin-{number}" for number in range(MOST_NAMES + 3)]
    for name in names:
        counts.add(name, "done")
    assert [counts.of(name)["done"] for name in names] == [1] * MOST_NAMES + [0] * 3
