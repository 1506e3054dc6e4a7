"""The leader/follower pool behaves as LF_ThreadPool did, without its defects.

`defect N` in a docstring is the number in the list of the original's defects.
"""

from __future__ import annotations

import logging
import queue
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import FrozenInstanceError
from pathlib import Path

import pytest

from lfscp.pool import LeaderFollowerPool, PoolState

DEADLINE_S = 30  # of a test that would otherwise hang; nothing is timed


class WatchedPool(LeaderFollowerPool):
    """A pool whose changes of state can be awaited, and are checked against the caps."""

    def __init__(self, *args, **kwargs) -> None:
        self.changed = threading.Condition()
        self.broken_caps: list[str] = []
        self.keeps_caps = True
        super().__init__(*args, **kwargs)
        self.change = self._roles.change
        self._roles.change = self.changed_to

    def changed_to(self, leader, waiting, running) -> None:
        self.change(leader, waiting, running)
        if self.keeps_caps:
            if 0 <= self.max_waiting < waiting:
                self.broken_caps.append(f"waiting {self}")
            if 0 < self.max_running < waiting + running:
                self.broken_caps.append(f"running {self}")
        with self.changed:
            self.changed.notify_all()

    def until(self, predicate: Callable[[PoolState], bool]) -> PoolState:
        with self.changed:
            assert self.changed.wait_for(lambda: predicate(self.state()), DEADLINE_S), str(self)
        return self.state()


class Door:
    """Stands for the listening socket: clients queue up, the leader takes one."""

    def __init__(self, **caps) -> None:
        self.clients: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self.promotions: list[bool] = []
        self.served_by: list[threading.Thread] = []
        self.threads: list[threading.Thread] = []
        self.pool = WatchedPool(self.handle, wake_leader=lambda: self.clients.put(None), **caps)

    def handle(self, pool: LeaderFollowerPool) -> None:
        client = self.clients.get(timeout=DEADLINE_S)
        if client is None:
            return
        self.promotions.append(pool.promote_new_leader())
        self.served_by.append(threading.current_thread())
        client()

    def join(self, name: str | None = None) -> threading.Thread:
        """Let one more thread join, and return when it leads, waits or has left."""
        before = self.members()
        has_left = threading.Event()

        def live() -> None:
            self.pool.join()
            with self.pool.changed:
                has_left.set()
                self.pool.changed.notify_all()

        thread = threading.Thread(target=live, name=name)
        self.threads.append(thread)
        thread.start()
        self.pool.until(lambda _: has_left.is_set() or self.members() > before)
        if has_left.is_set():
            thread.join(DEADLINE_S)
        return thread

    def members(self) -> int:
        state = self.pool.state()
        return state.waiting + state.running


class Client:
    """A request that is served until it is let go."""

    def __init__(self, fails: bool = False) -> None:
        self.is_served = threading.Event()
        self.may_end = threading.Event()
        self.fails = fails

    def __call__(self) -> None:
        self.is_served.set()
        assert self.may_end.wait(DEADLINE_S)
        if self.fails:
            raise OSError("the peer is gone")

    def send(self, door: Door) -> Client:
        door.clients.put(self)
        assert self.is_served.wait(DEADLINE_S)
        return self


@pytest.fixture
def door() -> Iterator[Callable[..., Door]]:
    """Makes doors, and sees that each pool can be ended, drained and never passed a cap."""
    doors: list[Door] = []

    def make(**caps) -> Door:
        doors.append(Door(**caps))
        return doors[-1]

    yield make
    for one in doors:
        one.pool.shutdown()
        assert one.pool.drain(DEADLINE_S), f"asleep for ever: {one.pool}"
        for thread in one.threads:
            thread.join(DEADLINE_S)
        assert one.pool.broken_caps == []
        assert (one.pool.waiting, one.pool.running) == (0, 0)


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    """The pool's messages without the instance number."""
    return [re.sub(r"LF_ThreadPool-\d+", "LF_ThreadPool-n", m) for m in caplog.messages]


# Joining and leaving


def test_a_pool_at_rest_has_a_leader_that_counts_as_running(door):
    d = door(max_running=5)
    thread = d.join("Thread-2")
    d.join()
    d.pool.until(lambda s: s.waiting == 1)
    assert d.pool.state() == PoolState("Thread-2", 1, 1, 5, -1, False)
    assert re.fullmatch(
        r"LF_ThreadPool-\d+\[leader:Thread-2, waiting:1, running: 1\(5\), shutdown: false\]",
        str(d.pool),
    )
    assert d.pool.leader == thread.name
    with pytest.raises(FrozenInstanceError):
        d.pool.state().waiting = 3


def test_an_empty_pool_writes_null_for_its_leader():
    first, second = LeaderFollowerPool(print), LeaderFollowerPool(print)
    pattern = r"LF_ThreadPool-(\d+)\[leader:null, waiting:0, running: 0\(0\), shutdown: false\]"
    numbers = [int(re.fullmatch(pattern, str(pool))[1]) for pool in (first, second)]
    assert numbers[1] == numbers[0] + 1
    assert first.leader is None


@pytest.mark.parametrize(
    ("caps", "joining", "waiting", "left"),
    [
        ({"max_running": 5, "max_waiting": 3}, 5, 3, 1),
        ({"max_waiting": 3}, 20, 3, 16),
        ({"max_running": 3}, 6, 2, 3),
        ({}, 8, 7, 0),
        ({"max_running": 1}, 3, 0, 2),
        ({"max_waiting": 0}, 3, 0, 2),
    ],
)
def test_threads_that_join_one_by_one_stay_up_to_the_caps(door, caps, joining, waiting, left):
    d = door(**caps)
    for _ in range(joining):
        d.join()
    assert (d.pool.waiting, d.pool.running) == (waiting, 1)
    assert sum(not thread.is_alive() for thread in d.threads) == left


@pytest.mark.parametrize("trial", range(20))
def test_threads_that_join_together_never_pass_the_caps(door, trial):
    """Defects 1 and 2: the original let up to 20 in, with caps of 3 and 5."""
    d = door(max_running=5, max_waiting=3)
    together = threading.Barrier(20)

    def join() -> None:
        together.wait(DEADLINE_S)
        d.pool.join()

    d.threads = [threading.Thread(target=join) for _ in range(20)]
    for thread in d.threads:
        thread.start()
    d.pool.until(lambda s: s.waiting == 3 and s.running == 1)
    d.pool.shutdown()
    assert d.pool.drain(DEADLINE_S)
    assert d.pool.broken_caps == []


def test_a_member_does_not_join_twice():
    refused = []

    def handle(pool: LeaderFollowerPool) -> None:
        with pytest.raises(RuntimeError, match="member of LF_ThreadPool"):
            pool.join()
        refused.append(True)
        pool.shutdown()

    LeaderFollowerPool(handle).join()
    assert refused == [True]


def test_start_begins_with_n_threads_of_distinct_names(door):
    d = door(name="acceptor")
    d.pool.start(5)
    d.pool.until(lambda s: s.waiting == 4 and s.running == 1)
    names = sorted(t.name for t in threading.enumerate() if t.name.startswith("acceptor-"))
    assert names == [f"acceptor-{k}" for k in range(1, 6)]
    with pytest.raises(ValueError, match="threads: 0"):
        d.pool.start(0)


def test_threads_of_two_pools_of_one_name_have_distinct_names(door):
    """Defect 12."""
    for _ in range(2):
        d = door(name="twin")
        d.pool.start(2)
        d.pool.until(lambda s: s.waiting == 1 and s.running == 1)
    names = [t.name for t in threading.enumerate() if t.name.startswith("twin-")]
    assert len(names) == len(set(names)) == 4


# Leading and promoting


def test_a_handler_that_does_not_promote_is_called_again_in_the_same_thread(caplog):
    caplog.set_level(logging.DEBUG, "lfscp.pool")
    calls: list[tuple[LeaderFollowerPool, threading.Thread, str | None, int]] = []

    def handle(pool: LeaderFollowerPool) -> None:
        calls.append((pool, threading.current_thread(), pool.leader, pool.running))
        if len(calls) == 3:
            pool.shutdown()

    pool = LeaderFollowerPool(handle)
    pool.join()
    me = threading.current_thread()
    assert calls == [(pool, me, me.name, 1)] * 3
    new_leader = [line for line in lines(caplog) if line.endswith("New Leader")]
    assert len(new_leader) == 1


def test_promotion_wakes_the_follower_that_came_last_and_starts_no_thread(door):
    d = door()
    first, _, last = d.join(), d.join(), d.join()
    client = Client().send(d)
    state = d.pool.until(lambda s: s.leader == last.name and s.running == 2)
    assert d.promotions == [True]
    assert d.served_by == [first]
    assert state.waiting == 1
    client.may_end.set()
    d.pool.until(lambda s: s.waiting == 2 and s.running == 1)


def test_promotion_without_followers_starts_a_thread_named_after_the_pool(door):
    d = door(name="SCP", max_running=3)
    d.join("Thread-1")
    clients = [Client().send(d)]
    d.pool.until(lambda s: s.leader == "SCP-1" and s.running == 2)
    clients.append(Client().send(d))
    d.pool.until(lambda s: s.leader == "SCP-2" and s.running == 3)
    assert d.promotions == [True, True]
    for client in clients:
        client.may_end.set()
    d.pool.until(lambda s: s.waiting == 2 and s.running == 1)


def test_at_the_running_cap_nobody_leads_until_a_processor_is_done(door):
    d = door(max_running=2)
    first = d.join()
    stays = Client().send(d)
    d.pool.until(lambda s: s.running == 2)
    ends = Client().send(d)
    assert d.promotions == [True, False]
    assert d.pool.state() == PoolState(None, 0, 2, 2, -1, False)
    ends.may_end.set()
    second = d.served_by[1]
    d.pool.until(lambda s: s.leader == second.name and s.running == 2)
    next_client = Client().send(d)
    assert d.served_by == [first, second, second]
    for client in (stays, next_client):
        client.may_end.set()
    d.pool.until(lambda s: s.waiting == 1 and s.running == 1)


def test_only_the_leader_may_promote(door):
    """An outsider, anybody at an empty pool, and a processor that promotes twice."""
    empty = LeaderFollowerPool(print)
    with pytest.raises(RuntimeError, match=r"MainThread is not the leader of LF_ThreadPool"):
        empty.promote_new_leader()
    d = door()
    d.join()
    before = d.pool.state()
    with pytest.raises(RuntimeError, match="not the leader"):
        d.pool.promote_new_leader()
    assert d.pool.state() == before

    errors: queue.SimpleQueue[BaseException] = queue.SimpleQueue()

    def promotes_again() -> None:
        d.pool.until(lambda s: s.leader is not None and s.running == 2)
        try:
            d.pool.promote_new_leader()
        except RuntimeError as error:
            errors.put(error)

    d.clients.put(promotes_again)
    assert "not the leader" in str(errors.get(timeout=DEADLINE_S))
    d.pool.until(lambda s: s.waiting == 1 and s.running == 1)


def test_the_place_of_a_thread_that_is_being_started_is_reserved(door):
    """Defect 5: whoever joins meanwhile cannot take the place that was promised."""
    d = door(max_running=2, name="SCP")
    d.join()
    start_thread = d.pool._start_thread

    def somebody_joins_first(heir) -> bool:
        outsider = threading.Thread(target=d.pool.join)
        outsider.start()
        outsider.join(DEADLINE_S)
        assert not outsider.is_alive()
        return start_thread(heir)

    d.pool._start_thread = somebody_joins_first
    client = Client().send(d)
    d.pool.until(lambda s: s.leader == "SCP-1" and s.running == 2)
    client.may_end.set()


def test_with_max_waiting_0_requests_are_served_one_at_a_time(door):
    """Defect 5: no True for a thread that would leave at once, and no such thread."""
    d = door(max_waiting=0, name="single")
    first = d.join()
    for _ in range(3):
        client = Client().send(d)
        assert d.pool.state() == PoolState(None, 0, 1, 0, 0, False)
        client.may_end.set()
        d.pool.until(lambda s: s.leader == first.name and s.running == 1)
    assert d.promotions == [False] * 3
    assert d.served_by == [first] * 3


@pytest.mark.parametrize("threads", [1, 5])
def test_the_experiment_of_12_clients_at_once(door, caplog, threads):
    """max_running 5, max_waiting 3: 5 run, the rest wait outside; then 3 wait and 1 leads."""
    caplog.set_level(logging.DEBUG, "lfscp.pool")
    d = door(max_running=5, max_waiting=3, name="experiment")
    for _ in range(threads):
        d.join()
    clients = [Client() for _ in range(12)]
    for client in clients:
        d.clients.put(client)
    d.pool.until(lambda s: s.running == 5 and s.leader is None)
    for done, next_client in zip(clients[:7], clients[5:], strict=True):
        assert not next_client.is_served.is_set()
        done.may_end.set()
        assert next_client.is_served.wait(DEADLINE_S)
    assert (d.promotions.count(True), d.promotions.count(False)) == (4, 8)
    for client in clients[7:]:
        client.may_end.set()
    d.pool.until(lambda s: s.waiting == 3 and s.running == 1 and s.leader is not None)
    made = [line for line in lines(caplog) if line.endswith("by add new Thread")]
    assert len(made) == (4 if threads == 1 else 1)


def test_without_limits_threads_are_made_once_and_nobody_leaves(door, caplog):
    caplog.set_level(logging.DEBUG, "lfscp.pool")
    d = door()
    d.join()
    for _ in range(2):
        clients = [Client() for _ in range(50)]
        for client in clients:
            d.clients.put(client)
        for client in clients:
            assert client.is_served.wait(DEADLINE_S)
        d.pool.until(lambda s: s.running == 51)
        for client in clients:
            client.may_end.set()
        d.pool.until(lambda s: s.waiting == 50 and s.running == 1)
    made = [line for line in lines(caplog) if line.endswith("by add new Thread")]
    assert len(made) == 50
    assert not [line for line in lines(caplog) if " LEFT " in line]


# Debug messages


def test_debug_messages_show_the_state_at_their_moment(door, caplog):
    caplog.set_level(logging.DEBUG, "lfscp.pool")
    d = door(max_running=2, name="P")
    d.join("Thread-1")
    d.join("Thread-2")
    served = Client().send(d)
    d.pool.until(lambda s: s.leader == "Thread-2" and s.running == 2)
    last = Client().send(d)
    d.pool.shutdown()
    served.may_end.set()
    d.threads[0].join(DEADLINE_S)
    last.may_end.set()
    d.threads[1].join(DEADLINE_S)
    d.pool.shutdown()

    def at(leader: str, waiting: int, running: int, shutdown: str = "false") -> str:
        return (
            f"LF_ThreadPool-n[leader:{leader}, waiting:{waiting}, running: {running}(2), "
            f"shutdown: {shutdown}] - "
        )

    assert lines(caplog) == [
        "Thread: Thread-1 JOIN ThreadPool P",
        at("Thread-1", 0, 0) + "New Leader",
        "Thread: Thread-2 JOIN ThreadPool P",
        at("Thread-1", 0, 1) + "Thread-2 enter wait()",
        at("null", 1, 1) + "promote new leader by notify",
        at("null", 0, 1) + "Thread-2 awaked",
        at("Thread-2", 0, 1) + "New Leader",
        at("null", 0, 2) + "Max number of threads reached",
        at("null", 0, 2) + "shutdown",
        "Thread: Thread-1 LEFT ThreadPool P",
        "Thread: Thread-2 LEFT ThreadPool P",
        at("null", 0, 0, "true") + "shutdown",
    ]


def test_debug_message_of_a_new_thread(door, caplog):
    caplog.set_level(logging.DEBUG, "lfscp.pool")
    d = door(name="P")
    d.join("Thread-1")
    client = Client().send(d)
    d.pool.until(lambda s: s.leader == "P-1" and s.running == 2)
    assert lines(caplog)[2:] == [
        "LF_ThreadPool-n[leader:null, waiting:0, running: 1(0), shutdown: false] - "
        "promote new leader by add new Thread",
        "Thread: P-1 JOIN ThreadPool P",
        "LF_ThreadPool-n[leader:P-1, waiting:0, running: 1(0), shutdown: false] - New Leader",
    ]
    client.may_end.set()


def test_a_thread_that_leaves_at_once_says_so(door, caplog):
    d = door(max_running=1, name="P")
    d.join("Thread-1")
    caplog.set_level(logging.DEBUG, "lfscp.pool")
    d.join("Thread-2")
    assert lines(caplog) == [
        "Thread: Thread-2 JOIN ThreadPool P",
        "Thread: Thread-2 LEFT ThreadPool P",
    ]


def test_a_log_handler_may_read_the_state_and_shut_the_pool_down():
    """A record is handled while the pool's lock is held; the reader must not stop there."""
    seen: list[PoolState] = []

    class Reader(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            other = threading.Thread(target=lambda: seen.append(pool.state()))
            other.start()
            other.join(DEADLINE_S)
            if "New Leader" in record.getMessage():
                pool.shutdown()

    pool = LeaderFollowerPool(lambda pool: None, name="P")
    log = logging.getLogger("lfscp.pool")
    reader, level = Reader(), log.level
    log.addHandler(reader)
    log.setLevel(logging.DEBUG)
    try:
        pool.join()
    finally:
        log.removeHandler(reader)
        log.setLevel(level)
    assert len(seen) == 4  # JOIN, New Leader, shutdown, LEFT
    assert pool.state() == PoolState(None, 0, 0, 0, -1, True)


def test_state_can_be_read_at_any_time(door):
    """Defect 11: the original's toString raised when the leader went meanwhile."""
    d = door()
    d.pool.start(2)
    stop = threading.Event()
    failures: list[BaseException] = []

    def observe() -> None:
        try:
            while not stop.is_set():
                assert "leader:" in str(d.pool)
                assert d.pool.leader is None or d.pool.running >= 0
        except Exception as error:  # noqa: BLE001 - whatever it is, the observer must not see it
            failures.append(error)

    observer = threading.Thread(target=observe)
    observer.start()
    served = threading.Semaphore(0)
    for _ in range(300):
        d.clients.put(served.release)
    for _ in range(300):
        assert served.acquire(timeout=DEADLINE_S)
    stop.set()
    observer.join(DEADLINE_S)
    assert failures == []


# Exceptions


def test_an_exception_after_the_promotion_ends_only_that_request(door, caplog):
    """Defect 6."""
    d = door()
    first = d.join("Thread-1")
    bad = Client(fails=True).send(d)
    d.pool.until(lambda s: s.leader is not None and s.running == 2)
    bad.may_end.set()
    d.pool.until(lambda s: s.waiting == 1 and s.running == 1)
    good = Client().send(d)
    good.may_end.set()
    assert not d.pool.is_shutdown
    assert first.is_alive()
    record = next(r for r in caplog.records if r.name == "lfscp.pool")
    assert (record.levelname, record.getMessage()) == ("WARNING", "Exception thrown in Thread-1")
    assert record.exc_info is not None


def test_an_exception_after_a_promotion_that_was_refused_ends_only_that_request(door):
    """Defect 6: nobody leads meanwhile, and the thread takes the lead again."""
    d = door(max_running=1)
    first = d.join()
    bad = Client(fails=True).send(d)
    bad.may_end.set()
    d.pool.until(lambda s: s.leader == first.name and s.running == 1)
    Client().send(d).may_end.set()
    assert d.promotions == [False, False]


def test_an_exception_of_the_leader_shuts_the_pool_down(caplog):
    def handle(pool: LeaderFollowerPool) -> None:
        raise OSError("the listening socket is gone")

    woken = []
    pool = WatchedPool(handle, wake_leader=lambda: woken.append(True))
    pool.join()  # returns normally
    assert pool.state() == PoolState(None, 0, 0, 0, -1, True)
    assert woken == [True]
    assert [r.getMessage() for r in caplog.records] == [
        f"Exception thrown in {threading.current_thread().name}"
    ]


def test_a_leader_that_is_interrupted_ends_the_pool_and_says_so():
    def handle(pool: LeaderFollowerPool) -> None:
        raise KeyboardInterrupt

    pool = LeaderFollowerPool(handle)
    with pytest.raises(KeyboardInterrupt):
        pool.join()
    assert pool.state() == PoolState(None, 0, 0, 0, -1, True)
    assert pool.drain(0)


class InterruptedGate:
    """A follower's gate at which Ctrl-C arrives, before or after the follower was woken."""

    def __init__(self, before: Callable[[], None]) -> None:
        self.before = before
        self.is_released = threading.Event()

    def acquire(self) -> None:
        self.before()
        raise KeyboardInterrupt

    def release(self) -> None:
        self.is_released.set()


def join_and_be_interrupted(pool: WatchedPool, gate: InterruptedGate) -> None:
    follow = pool._roles.follow

    def follow_at_gate(me, follower) -> None:
        follower.gate = gate
        pool._roles.follow = follow
        follow(me, follower)

    pool._roles.follow = follow_at_gate
    with pytest.raises(KeyboardInterrupt):
        pool.join()


def test_a_follower_that_is_interrupted_leaves_the_others_as_they_are(door):
    """Ctrl-C reaches the main thread, which may be a follower."""
    d = door()
    d.join()
    join_and_be_interrupted(d.pool, InterruptedGate(lambda: None))
    assert (d.pool.waiting, d.pool.running) == (0, 1)
    Client().send(d).may_end.set()
    assert d.promotions == [True]


def test_a_follower_that_is_interrupted_when_woken_passes_the_lead_on(door):
    d = door()
    first, second = d.join(), d.join()
    client = Client()

    def be_woken() -> None:
        client.send(d)
        assert gate.is_released.wait(DEADLINE_S)

    gate = InterruptedGate(be_woken)
    join_and_be_interrupted(d.pool, gate)
    d.pool.until(lambda s: s.leader == second.name and (s.waiting, s.running) == (0, 2))
    assert d.served_by == [first]
    client.may_end.set()


# Followers that nobody needs


def test_followers_that_wait_for_too_long_leave_and_the_leader_stays(door):
    d = door(max_idle_s=0.05)
    leader = d.join()
    others = [d.join() for _ in range(5)]
    for each in others:
        each.join(DEADLINE_S)
    assert d.pool.state() == PoolState(leader.name, 0, 1, 0, -1, False)
    client = Client().send(d)
    d.pool.until(lambda s: s.leader is not None and s.running == 2)
    client.may_end.set()


def test_a_follower_that_is_woken_while_it_is_about_to_leave_leads(door):
    """Many waits that end at the moment of a promotion: the lead is never lost."""
    d = door(max_idle_s=0.001)
    d.join()
    for _ in range(300):
        client = Client().send(d)
        d.pool.until(lambda s: s.leader is not None)
        client.may_end.set()
    assert all(d.promotions)


@pytest.mark.parametrize("wrong", [0, -1.0, float("inf"), float("nan")])
def test_a_time_to_wait_that_is_none_is_refused(wrong):
    with pytest.raises(ValueError, match=r"max_idle_s: .*; must be"):
        LeaderFollowerPool(lambda _: None, max_idle_s=wrong)


# Shutdown and drain


def test_shutdown_sends_followers_and_a_blocked_leader_away(door):
    """Defects 7 and 8: nobody is left asleep, and no further client is served."""
    d = door()
    for _ in range(5):
        d.join()
    d.pool.shutdown()
    d.clients.put(lambda: pytest.fail("served after shutdown"))
    assert d.pool.drain(DEADLINE_S)
    for thread in d.threads:
        thread.join(DEADLINE_S)
        assert not thread.is_alive()
    assert d.promotions == []
    assert d.pool.state() == PoolState(None, 0, 0, 0, -1, True)


@pytest.mark.parametrize("trial", range(30))
def test_shutdown_while_threads_come_and_promote_leaves_nobody_asleep(trial):
    """Defects 8 and 9: no RuntimeError for the leader, no thread started afterwards."""
    wrong: list[BaseException] = []
    calls = threading.Semaphore(0)

    def handle(pool: LeaderFollowerPool) -> None:
        calls.release()
        try:
            pool.promote_new_leader()
        except RuntimeError as error:
            wrong.append(error)

    pool = WatchedPool(handle, max_running=4)
    is_over = threading.Event()
    start_thread = pool._start_thread

    def start(heir):
        was_over = is_over.is_set()
        started = start_thread(heir)
        if was_over and started:
            wrong.append(AssertionError("a thread was started after shutdown"))
        return started

    pool._start_thread = start
    pool.start(1)
    for _ in range(trial * 3):
        assert calls.acquire(timeout=DEADLINE_S)
    pool.shutdown()
    is_over.set()
    assert pool.drain(DEADLINE_S), str(pool)
    assert wrong == []
    assert pool.broken_caps == []


def test_a_handler_that_never_blocks_sees_the_shutdown():
    """Defect 10."""
    is_called = threading.Event()
    pool = LeaderFollowerPool(lambda pool: is_called.set())
    pool.start(1)
    assert is_called.wait(DEADLINE_S)
    pool.shutdown()
    assert pool.drain(DEADLINE_S)


def test_after_shutdown_promotion_answers_false_to_anybody(door):
    d = door()
    d.join()
    answers: queue.SimpleQueue[bool] = queue.SimpleQueue()

    def ask_again() -> None:
        d.pool.shutdown()
        answers.put(d.pool.promote_new_leader())

    d.clients.put(ask_again)
    assert answers.get(timeout=DEADLINE_S) is False
    assert d.pool.promote_new_leader() is False


def test_a_promotion_that_meets_the_shutdown_starts_no_thread(door):
    """Defect 9."""
    d = door(name="late")
    d.join()
    reserve = d.pool._threads.reserve_name

    def shut_down_first() -> str:
        d.pool.shutdown()
        return reserve()

    d.pool._threads.reserve_name = shut_down_first
    Client().send(d).may_end.set()
    assert d.promotions == [False]
    assert d.pool.drain(DEADLINE_S)
    assert not [t for t in threading.enumerate() if t.name.startswith("late-")]


def test_after_shutdown_nobody_joins_and_repeating_it_is_harmless(door):
    d = door(name="closed")
    d.pool.shutdown()
    d.pool.shutdown()
    d.clients.put(lambda: pytest.fail("served after shutdown"))
    d.pool.join()
    d.pool.start(2)
    assert d.pool.drain(DEADLINE_S)
    assert d.clients.get_nowait() is None  # the leader was to be woken once
    assert not [t for t in threading.enumerate() if t.name.startswith("closed-")]


def test_processors_finish_their_request_after_shutdown(door):
    d = door()
    thread = d.join()
    client = Client().send(d)
    d.pool.shutdown()
    assert d.pool.drain(0) is False
    assert thread.is_alive()
    client.may_end.set()
    assert d.pool.drain(None) is True
    assert d.served_by == [thread]


def test_a_member_cannot_wait_for_the_pool_to_drain():
    def handle(pool: LeaderFollowerPool) -> None:
        pool.shutdown()
        with pytest.raises(RuntimeError, match="a member cannot wait"):
            pool.drain()

    pool = LeaderFollowerPool(handle)
    pool.join()
    assert pool.drain(0)


def test_a_wake_leader_that_fails_is_logged_and_the_pool_ends(caplog):
    def wake() -> None:
        raise OSError("already closed")

    pool = LeaderFollowerPool(lambda pool: None, wake_leader=wake)
    pool.start(2)
    pool.shutdown()
    assert pool.drain(DEADLINE_S)
    assert any("wake_leader failed" in r.getMessage() for r in caplog.records)


# Limits


@pytest.mark.parametrize(
    ("setting", "wrong", "lowest"), [("max_running", -1, 0), ("max_waiting", -2, -1)]
)
def test_a_cap_out_of_range_is_refused_and_the_old_value_kept(setting, wrong, lowest):
    pool = LeaderFollowerPool(print)
    assert getattr(pool, setting) == lowest
    setattr(pool, setting, 3)
    with pytest.raises(ValueError, match=f"{setting}: {wrong}"):
        setattr(pool, setting, wrong)
    assert getattr(pool, setting) == 3
    with pytest.raises(ValueError, match=f"{setting}: {wrong}"):
        LeaderFollowerPool(print, **{setting: wrong})
    setattr(pool, setting, lowest)
    assert getattr(pool, setting) == lowest


@pytest.mark.parametrize("handler", [None, "handler"])
def test_a_handler_that_cannot_be_called_is_refused(handler):
    with pytest.raises(TypeError, match="handler"):
        LeaderFollowerPool(handler)


def test_lowering_a_cap_evicts_nobody_but_stops_promotion_by_notify(door):
    """Defect 3: the notify path looks at the running cap."""
    d = door()
    for _ in range(4):
        d.join()
    first = Client().send(d)
    d.pool.until(lambda s: s.running == 2)
    d.pool.keeps_caps = False
    d.pool.max_running = 2
    assert (d.pool.waiting, d.pool.running) == (2, 2)
    second = Client().send(d)
    assert d.promotions == [True, False]
    assert d.pool.state() == PoolState(None, 2, 2, 2, -1, False)

    second.may_end.set()  # its thread is one too many and leaves; a follower takes the lead
    d.pool.until(lambda s: s.leader is not None and s.running == 2 and s.waiting == 1)
    first.may_end.set()
    d.pool.until(lambda s: s.running + s.waiting == 2)
    Client().send(d).may_end.set()


def test_raising_a_cap_lets_a_follower_lead_when_nobody_does(door):
    d = door()
    for _ in range(2):
        d.join()
    d.pool.keeps_caps = False
    d.pool.max_running = 1
    client = Client().send(d)
    assert d.pool.state() == PoolState(None, 1, 1, 1, -1, False)
    d.pool.max_running = 2
    d.pool.until(lambda s: s.leader is not None and s.running == 2)
    client.may_end.set()


# Threads that cannot be started


@pytest.fixture
def no_more_threads(monkeypatch) -> Callable[[], None]:
    """Makes the system refuse new threads, until it is undone."""

    def refuse(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    def begin() -> None:
        monkeypatch.setattr(threading.Thread, "start", refuse)

    return begin


def test_a_thread_that_cannot_be_started_leaves_a_leader_in_place(
    door, no_more_threads, monkeypatch, caplog
):
    """Defect 13."""
    d = door()
    thread = d.join()
    no_more_threads()
    client = Client().send(d)
    assert d.promotions == [False]
    assert d.pool.state() == PoolState(thread.name, 0, 1, 0, -1, False)
    assert "can't start new thread" in caplog.text
    client.may_end.set()
    client = Client().send(d)
    assert d.served_by == [thread, thread]
    monkeypatch.undo()
    client.may_end.set()
    client = Client().send(d)
    assert d.promotions == [False, False, True]
    client.may_end.set()


def test_a_free_thread_takes_the_lead_from_one_that_could_not_pass_it_on(
    door, no_more_threads, monkeypatch
):
    d = door()
    d.join()
    busy = Client().send(d)
    second = d.pool.until(lambda s: s.running == 2 and s.leader is not None).leader
    no_more_threads()
    stuck = Client().send(d)
    assert d.promotions == [True, False]
    assert d.pool.leader == second
    busy.may_end.set()
    free = d.served_by[0].name
    d.pool.until(lambda s: s.leader == free and s.running == 2)
    stuck.may_end.set()
    d.pool.until(lambda s: s.leader == free and s.waiting == 1 and s.running == 1)
    monkeypatch.undo()


def test_a_leader_that_is_done_after_a_failed_start_leads_on_in_earnest(
    no_more_threads, monkeypatch
):
    me = threading.current_thread().name
    other = threading.Thread(target=lambda: pool.join())
    leaders: list[str | None] = []

    def handle(pool: WatchedPool) -> None:
        leaders.append(pool.leader)
        if len(leaders) == 1:
            no_more_threads()
            assert pool.promote_new_leader() is False
            return
        monkeypatch.undo()
        other.start()
        leaders.append(pool.until(lambda s: s.waiting + s.running == 2).leader)
        pool.shutdown()

    pool = WatchedPool(handle)
    pool.join()
    other.join(DEADLINE_S)
    assert leaders == [me, me, me]


def test_a_request_that_fails_when_no_thread_could_be_started_ends_only_itself(
    door, no_more_threads, monkeypatch
):
    d = door()
    thread = d.join()
    no_more_threads()
    Client(fails=True).send(d).may_end.set()
    Client().send(d).may_end.set()
    monkeypatch.undo()
    assert d.served_by == [thread, thread]
    assert not d.pool.is_shutdown


def test_start_says_that_no_thread_can_be_started(no_more_threads):
    pool = LeaderFollowerPool(print)
    no_more_threads()
    with pytest.raises(RuntimeError, match="can't start new thread"):
        pool.start(2)
    assert pool.drain(0)


# The demonstration


def test_the_demonstration_answers_every_client_and_ends_by_itself():
    script = Path(__file__).parents[3] / "scripts" / "pool_demo.py"
    run = subprocess.run(
        [sys.executable, script, "--threads", "1", "5", "--work-ms", "20"],
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
    )
    assert (run.returncode, run.stderr) == (0, "")
    assert run.stdout.count("answered: 12 of 12") == 2
    assert run.stdout.count(" - New Leader\n") >= 12
    assert " - promote new leader by notify\n" in run.stdout
    assert " - promote new leader by add new Thread\n" in run.stdout
    states = re.findall(r"waiting:(\d+), running: (\d+)\(5\)", run.stdout)
    assert max(int(running) for _, running in states) <= 5
    assert max(int(waiting) for waiting, _ in states) == 3
    assert (
        len(re.findall(r"at rest: .*waiting:3, running: 1\(5\), shutdown: false", run.stdout)) == 2
    )
