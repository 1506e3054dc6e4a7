"""Sources take turns, whatever they send."""

import pytest

from lfscp.server.fair_queue import FairQueue


def test_a_source_that_sends_many_does_not_hold_up_another():
    queue = FairQueue()
    for number in range(100):
        queue.put("many", number)
    queue.put("one", "a")
    queue.put("two", "b")
    assert [queue.take() for _ in range(5)] == [0, "a", "b", 1, 2]
    assert (len(queue), queue.count_of("many"), queue.count_of("one")) == (97, 97, 0)


def test_an_item_can_be_taken_out_of_turn():
    queue = FairQueue()
    queue.put("a", 1)
    queue.put("b", 2)
    queue.put("b", 3)
    assert queue.largest() == "b"
    assert queue.take_of("b") == 2
    assert sorted(queue) == [1, 3]
    assert queue.take_of("b") == 3
    assert [queue.take() for _ in range(len(queue))] == [1]


def test_a_source_that_may_not_have_its_turn_keeps_it():
    queue = FairQueue()
    queue.put("a", 1)
    queue.put("b", 2)
    assert queue.take(lambda source: source != "a") == 2
    with pytest.raises(LookupError):
        queue.take(lambda source: source != "a")
    assert queue.take() == 1


def test_an_empty_queue_gives_nothing():
    queue = FairQueue()
    for ask in (queue.take, queue.largest, lambda: queue.take_of("a")):
        with pytest.raises(LookupError):
            ask()
    queue.put("a", 1)
    queue.clear()
    assert len(queue) == 0
    assert list(queue) == []
