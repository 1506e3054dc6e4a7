"""Counting: no count is lost between threads, none goes back when a process is replaced."""

from __future__ import annotations

import os
import sys
import threading

import pytest

from lfscp.observe.counters import Board, Counter, Gauge, Histogram


def counted(board: Board, counter: Counter) -> dict[tuple[str, ...], float]:
    return dict(counter.samples(board.sums()))


@pytest.fixture
def board() -> Board:
    return Board()


def test_a_value_that_was_not_declared_is_other(board: Board) -> None:
    counter = Counter(board, "x_total", "", service=("a", "other"), status=("1", "other"))
    counter.of("a", "1").add()
    counter.of("a", "2").add()
    counter.of("b", "1").add(5)
    assert counted(board, counter) == {
        ("a", "1"): 1,
        ("a", "other"): 1,
        ("other", "1"): 5,
        ("other", "other"): 0,
    }


def test_an_undeclared_value_without_other_is_an_error(board: Board) -> None:
    counter = Counter(board, "x_total", "", kind=("a",))
    with pytest.raises(KeyError):
        counter.of("b")


def test_buckets_hold_what_is_at_most_their_bound(board: Board) -> None:
    histogram = Histogram(board, "x_seconds", "", (1.0, 2.0))
    for value in (0.5, 1.0, 1.5, 9.0):
        histogram.observe(value)
    ((labels, numbers, total),) = histogram.samples(board.sums())
    assert (labels, numbers, total) == ((), [2, 3, 4], 12.0)


def test_no_thread_loses_a_count(board: Board) -> None:
    """The one thing relied on of CPython, see the head of `counters`."""
    histogram = Histogram(board, "x_seconds", "", (1.0,))
    counter = Counter(board, "x_total", "", kind=("a",))
    count, rounds, threads = counter.of("a"), 20_000, 4

    def work() -> None:
        for _ in range(rounds):
            count.add(2)
            histogram.observe(0.5)

    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        workers = [threading.Thread(target=work) for _ in range(threads)]
        for each in workers:
            each.start()
        for each in workers:
            each.join(60)
    finally:
        sys.setswitchinterval(before)
    assert counted(board, counter) == {("a",): 2 * rounds * threads}
    ((_, numbers, total),) = histogram.samples(board.sums())
    assert (numbers[-1], total) == (rounds * threads, rounds * threads / 2)


def in_a_child(work: object) -> None:
    """Run in a forked process, which ends at once as if it had been killed."""
    pid = os.fork()
    if pid == 0:
        try:
            work()  # type: ignore[operator]
        finally:
            os._exit(0)
    os.waitpid(pid, 0)


def test_processes_are_summed_and_a_successor_goes_on(board: Board) -> None:
    counter = Counter(board, "x_total", "", kind=("a",))
    gauge = Gauge(board, "now", "")
    counter.of("a").add(7)  # before there were any others
    board.share(2)
    count = counter.of("a")

    def work(line: int, amount: int) -> None:
        board.use(line)
        count.add(amount)
        gauge.set(1)

    in_a_child(lambda: work(0, 10))
    in_a_child(lambda: work(1, 100))
    assert counted(board, counter) == {("a",): 117}
    assert gauge.total(board.sums()) == 2
    in_a_child(lambda: work(1, 1000))  # in the place of the second
    assert counted(board, counter) == {("a",): 1117}
    in_a_child(lambda: board.use(0))
    assert gauge.total(board.sums()) == 1  # what a process that died had set is over
