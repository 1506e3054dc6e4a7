"""Events and queues that make a lock only when a thread waits behave as Python's do."""

import queue
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from lfscp.upperlayer.connection.waiting import LazyEvent, LazyQueue

KINDS_OF_EVENT = [threading.Event, LazyEvent]
KINDS_OF_QUEUE = [queue.Queue, LazyQueue]


@pytest.mark.parametrize("kind", KINDS_OF_EVENT)
def test_an_event_is_set_cleared_and_waited_for_in_vain(kind):
    event = kind()
    assert not event.is_set()
    assert event.wait(0.001) is False
    assert event.wait(-1) is False
    event.set()
    assert event.wait() is True
    event.clear()
    assert event.wait(0) is False


@pytest.mark.parametrize("kind", KINDS_OF_EVENT)
def test_an_event_wakes_all_that_wait(kind):
    event = kind()
    with ThreadPoolExecutor(8) as threads:
        waits = [threads.submit(event.wait, 30) for _ in range(8)]
        event.set()
        assert all(wait.result() for wait in waits)


def test_nobody_waits_at_an_event_after_the_time_is_over():
    event = LazyEvent()
    event.wait(0.001)
    assert event._gates == []


@pytest.mark.parametrize("kind", KINDS_OF_QUEUE)
def test_a_queue_gives_what_came_first(kind):
    items = kind()
    assert items.empty()
    items.put(1)
    items.put(2)
    assert items.queue[0] == 1
    assert items.qsize() == 2
    assert [items.get_nowait(), items.get(timeout=30)] == [1, 2]


@pytest.mark.parametrize("kind", KINDS_OF_QUEUE)
def test_an_empty_queue_is_said_to_be_empty(kind):
    items = kind()
    for ask in (items.get_nowait, lambda: items.get(False), lambda: items.get(timeout=0.001)):
        with pytest.raises(queue.Empty):
            ask()


@pytest.mark.parametrize("kind", KINDS_OF_QUEUE)
def test_each_item_of_a_queue_comes_out_once_however_many_put_and_take(kind):
    items = kind()
    each, threads = 500, 4
    with ThreadPoolExecutor(2 * threads) as pool:
        taken = [
            pool.submit(lambda: [items.get(timeout=60) for _ in range(each)])
            for _ in range(threads)
        ]
        for first in range(threads):
            pool.submit(lambda start: [items.put(start + at) for at in range(each)], first * each)
        found = [item for future in taken for item in future.result()]
    assert sorted(found) == list(range(each * threads))
    assert items.empty()
