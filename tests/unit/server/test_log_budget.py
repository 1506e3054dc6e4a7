"""A flood makes no flood of lines: counted with a clock of the test's own."""

import logging
import threading

from lfscp.observe.log_budget import LogBudget, RequestLines
from tests.support.still_clock import StillClock


def test_what_is_beyond_the_budget_is_counted_and_said_once():
    clock = StillClock()
    budget = LogBudget(of_each=2, of_all=5, span_s=10, clock=clock)
    assert [budget.allows("10.0.0.1") for _ in range(6)] == [True] * 2 + [False] * 4
    assert budget.allows("10.0.0.2"), "another address has its own"
    assert budget.left_out() is None, "the span is not over"
    clock.now += 10
    assert str(budget.left_out()) == "4 in 10 s: 4 of 10.0.0.1"
    assert budget.left_out() is None
    assert budget.allows("10.0.0.1")


def test_many_addresses_are_bounded_together_and_the_loudest_are_named():
    clock = StillClock()
    budget = LogBudget(of_each=2, of_all=3, span_s=10, clock=clock)
    assert sum(budget.allows(f"10.0.{n // 200}.{n % 200}") for n in range(3000)) == 3
    for _ in range(50):
        budget.allows("10.9.9.9")
    found = budget.left_out(now=True)
    assert found.count == 3047
    assert len(found.most) == 3
    assert str(found).endswith("of others")


def test_a_quiet_span_begins_anew():
    clock = StillClock()
    budget = LogBudget(of_each=1, span_s=10, clock=clock)
    assert budget.allows("a")
    clock.now += 11
    assert budget.allows("a")
    assert not budget.is_over


def test_what_was_left_out_of_requests_is_said_by_itself():
    """Nobody has to come for it once the flood is over."""
    said = threading.Event()
    records = []

    class Catch(logging.Handler):
        def emit(self, record):
            records.append(record.getMessage())
            said.set()

    logger, handler = logging.getLogger("lfscp.observe.log_budget"), Catch()
    logger.addHandler(handler)
    try:
        lines = RequestLines(LogBudget(of_each=3, span_s=0.05))
        assert [lines.allows("10.0.0.1") for _ in range(5)] == [True] * 3 + [False] * 2
        assert said.wait(10)
    finally:
        logger.removeHandler(handler)
    (record,) = records
    assert "2 of 10.0.0.1" in record
    assert lines.allows("10.0.0.1")
