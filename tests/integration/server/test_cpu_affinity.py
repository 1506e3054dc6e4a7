"""Threads that serve at the same time share a processor, and have all of them back afterwards."""

import gc
import os
import threading
import weakref
from contextlib import ExitStack

import pytest

from lfscp.server.cpu_affinity import IDLE_S, MANY, SharedProcessor, anywhere
from tests.support.dicom_peer import EVERYWHERE, Peer, bound_threads, until
from tests.support.serving import serving

pytestmark = pytest.mark.skipif(
    len(EVERYWHERE) < 2, reason="with one processor there is nothing to choose"
)


class Serving:
    """A thread that is a member until it is told to leave, idle for as long as is said."""

    def __init__(self, processor):
        self.idle_s = 0.0
        self._ends = threading.Event()
        self._is_inside = threading.Event()
        self._thread = threading.Thread(target=self._serve, args=(processor,))
        self._thread.start()
        assert self._is_inside.wait(10)

    def _serve(self, processor):
        with processor.member(lambda: self.idle_s):
            self._is_inside.set()
            self._ends.wait(10)
        self.after = os.sched_getaffinity(0)

    @property
    def allowed(self):
        return os.sched_getaffinity(self._thread.native_id)

    def leave(self):
        self._ends.set()
        self._thread.join(10)
        return self.after


@pytest.fixture
def threads():
    """Starts serving threads, which have left at the end."""
    with ExitStack() as stack:

        def start(processor):
            thread = Serving(processor)
            stack.callback(thread.leave)
            return thread

        yield start


@pytest.fixture
def two_are_many(monkeypatch):
    """Two threads share a processor already: for what does not depend on how many they are."""
    monkeypatch.setattr("lfscp.server.cpu_affinity.MANY", 2)


@pytest.mark.parametrize("count", [1, MANY - 1])
def test_a_few_threads_go_where_they_like(threads, count):
    processor = SharedProcessor()
    few = [threads(processor) for _ in range(count)]
    assert [thread.allowed for thread in few] == count * [EVERYWHERE]
    assert processor.chosen is None


def test_many_threads_that_serve_at_the_same_time_share_one_processor(threads):
    processor = SharedProcessor()
    serving_threads = [threads(processor) for _ in range(MANY + 1)]
    assert processor.chosen in EVERYWHERE
    assert [thread.allowed for thread in serving_threads] == (MANY + 1) * [{processor.chosen}]
    assert os.sched_getaffinity(0) == EVERYWHERE, "nobody else is bound"


def test_who_leaves_and_a_few_who_are_left_are_free_again(threads):
    processor = SharedProcessor()
    first, second, *others = (threads(processor) for _ in range(MANY + 1))
    assert first.leave() == EVERYWHERE
    bound = {processor.chosen}
    assert [thread.allowed for thread in (second, *others)] == MANY * [bound]
    assert second.leave() == EVERYWHERE
    assert [thread.allowed for thread in others] == (MANY - 1) * [EVERYWHERE]
    assert processor.chosen is None
    assert [thread.leave() for thread in others] == (MANY - 1) * [EVERYWHERE]


def test_who_has_nothing_to_do_is_not_counted(threads):
    processor = SharedProcessor()
    silent = [threads(processor) for _ in range(MANY)]
    for thread in silent:
        thread.idle_s = IDLE_S
    processor.look_again()
    few = [threads(processor) for _ in range(MANY - 1)]
    assert [thread.allowed for thread in (*silent, *few)] == (2 * MANY - 1) * [EVERYWHERE]
    silent[0].idle_s = 0.0  # its peer has asked for something
    processor.look_again()
    assert [thread.allowed for thread in (silent[0], *few)] == MANY * [{processor.chosen}]
    assert [thread.allowed for thread in silent[1:]] == (MANY - 1) * [EVERYWHERE]
    few[0].idle_s = IDLE_S
    processor.look_again()
    assert [thread.allowed for thread in (*silent, *few)] == (2 * MANY - 1) * [EVERYWHERE]
    assert processor.chosen is None


def test_nobody_is_freed_and_bound_again_for_each_that_comes_and_goes(threads, monkeypatch):
    changed = []

    def allow(thread, processors):
        changed.append(thread)
        os.sched_setaffinity(thread, processors)

    processor = SharedProcessor()
    for thread in [threads(processor) for _ in range(MANY)]:
        thread.idle_s = IDLE_S
    processor.look_again()
    for _ in range(MANY - 1):
        threads(processor)
    assert processor.chosen is None
    monkeypatch.setattr("lfscp.server.cpu_affinity._allow", allow)
    for _ in range(5):
        threads(processor).leave()
    assert len(changed) <= MANY - 1 + 2 * 5, "the others once, each of the five twice"


def test_many_silent_members_are_not_asked_each_time_that_another_comes(threads, monkeypatch):
    monkeypatch.setattr("lfscp.server.cpu_affinity._LOOK_AGAIN_S", 60.0)
    processor = SharedProcessor()
    silent = [threads(processor) for _ in range(MANY - 1)]
    for thread in silent:
        thread.idle_s = IDLE_S
    threads(processor)  # one is busy, that takes no second look so soon
    busy = [threads(processor) for _ in range(MANY)]
    assert processor.chosen is None
    processor.look_again()
    assert busy[0].allowed == {processor.chosen}


@pytest.mark.usefixtures("two_are_many")
@pytest.mark.parametrize("workers", [2, 3, 200])
def test_workers_choose_processors_of_their_own(threads, monkeypatch, workers):
    processors = sorted(EVERYWHERE)
    monkeypatch.setattr(
        "lfscp.server.cpu_affinity._current_processor", lambda _thread: processors[0]
    )
    chosen = []
    for number in range(workers):
        processor = SharedProcessor()
        processor.share(number, workers)
        members = [threads(processor), threads(processor)] if number < len(processors) else []
        chosen += [processor.chosen] if members else []
        assert all(member.allowed == {processor.chosen} for member in members)
    assert sorted(chosen) == processors[:workers], "each has one of its own while there are enough"


@pytest.mark.usefixtures("two_are_many")
def test_a_processor_that_is_gone_does_no_harm(threads, monkeypatch):
    monkeypatch.setattr(SharedProcessor, "_choice", lambda self, thread: 4095)
    processor = SharedProcessor()
    first, second = threads(processor), threads(processor)
    assert first.allowed == second.allowed == EVERYWHERE


@pytest.mark.usefixtures("two_are_many")
def test_long_work_of_a_member_is_done_anywhere_and_it_returns_to_the_others(threads):
    processor = SharedProcessor()
    others = [threads(processor), threads(processor)]
    try:
        with processor.member():
            assert os.sched_getaffinity(0) == {processor.chosen}
            with anywhere():
                assert os.sched_getaffinity(0) == EVERYWHERE
                assert others[0].allowed == others[1].allowed == {processor.chosen}
            assert os.sched_getaffinity(0) == {processor.chosen}
            with anywhere():
                others[0].leave()
                others[1].leave()
            assert os.sched_getaffinity(0) == EVERYWHERE, "it is alone by now"
    finally:
        os.sched_setaffinity(0, EVERYWHERE)
    with anywhere():
        assert os.sched_getaffinity(0) == EVERYWHERE, "nor is it a member any more"


@pytest.mark.usefixtures("two_are_many")
def test_nobody_is_bound_when_no_processor_can_be_chosen(threads, monkeypatch):
    monkeypatch.setattr("lfscp.server.cpu_affinity._current_processor", lambda _thread: None)
    processor = SharedProcessor()
    members = [threads(processor) for _ in range(3)]
    assert [thread.allowed for thread in members] == 3 * [EVERYWHERE]
    assert processor.chosen is None


@pytest.mark.parametrize("binds", [True, False])
def test_a_server_binds_those_that_serve_and_only_when_asked(binds):
    with serving(one_processor=binds) as server, ExitStack() as stack:
        peers = []
        for number in range(1, MANY + 1):
            peers.append(stack.enter_context(Peer(server.server_address)))
            peers[-1].associate()
            assert [peer.echo() for peer in peers] == number * [0]
            assert bound_threads() == (MANY if binds and number == MANY else 0)
        peers.pop().release()
        assert until(lambda: bound_threads() == 0)
        for peer in peers:
            assert peer.echo() == 0
            peer.release()


def test_a_thread_that_waits_keeps_no_association_alive():
    with serving(one_processor=True) as server:
        with Peer(server.server_address) as peer:
            peer.associate()
            association = weakref.ref(server.active_associations[0])
            peer.release()

        def is_gone():
            gc.collect()
            return association() is None

        assert until(is_gone)


def test_associations_whose_peers_are_silent_are_not_counted(monkeypatch):
    monkeypatch.setattr("lfscp.server.cpu_affinity.IDLE_S", 0.2)
    with serving(one_processor=True) as server, ExitStack() as stack:

        def join():
            peer = stack.enter_context(Peer(server.server_address))
            peer.associate()
            return peer

        silent = [join() for _ in range(MANY)]
        assert until(lambda: all(each.idle_s() > 0.2 for each in server.active_associations))
        peer = join()
        assert peer.echo() == 0
        assert until(lambda: bound_threads() == 0)
        for each in (peer, *silent):
            each.release()
