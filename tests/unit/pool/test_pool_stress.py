"""The pool keeps its caps and its promises through many thousand hand-overs."""

from __future__ import annotations

import random
import threading
import time
from dataclasses import dataclass, field

import pytest

from lfscp.pool import LeaderFollowerPool, PoolState

DEADLINE_S = 60  # of a test that would otherwise hang; nothing is timed


class AssertingPool(LeaderFollowerPool):
    """Checks, with the lock held and at each change, what must be true at every instant."""

    def __init__(self, *args, **kwargs) -> None:
        self.broken: list[str] = []
        self.new_leaders = 0
        super().__init__(*args, **kwargs)
        self.change, self.lead = self._roles.change, self._roles.lead
        self._roles.change, self._roles.lead = self.changed_to, self.led_by

    def changed_to(self, leader, waiting, running) -> None:
        self.change(leader, waiting, running)
        if broken := passed_caps(self.state()):
            self.broken.append(f"{broken}: {self}")
        starting = self._roles.heir is not None and self._roles.heir.is_new_thread
        if self.max_running and waiting + running + starting > self.max_running:
            self.broken.append(f"reserved place given away: {self}")

    def led_by(self, me) -> None:
        if not self._roles.is_vacant():
            self.broken.append(f"two leaders: {me.name}, {self}")
        self.new_leaders += 1
        self.lead(me)

    def _inherit(self, me, heir) -> bool:
        leads = super()._inherit(me, heir)
        if not leads and not self.is_shutdown:
            self.broken.append(f"{me.name} was promised the lead: {self}")
        return leads


def passed_caps(state: PoolState) -> str:
    """Return which cap is passed, or nothing."""
    if min(state.waiting, state.running) < 0:
        return "negative"
    if 0 <= state.max_waiting < state.waiting:
        return "max_waiting"
    if 0 < state.max_running < state.waiting + state.running:
        return "max_running"
    return ""


@dataclass
class Work:
    """Hand-overs with random tiny delays, until there were enough."""

    wanted: int
    rng: random.Random = field(default_factory=lambda: random.Random(7))
    hand_overs: int = 0
    refused: int = 0
    processing: int = 0
    most_processing: int = 0
    failures: list[str] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)
    is_done: threading.Event = field(default_factory=threading.Event)

    def handle(self, pool: LeaderFollowerPool) -> None:
        with self.lock:
            leads_alone = pool.leader == threading.current_thread().name
            delay = self.rng.random()
            if not leads_alone and not pool.is_shutdown:
                self.failures.append(f"{threading.current_thread().name} serves under {pool}")
        self.pause(delay)
        promoted = pool.promote_new_leader()
        with self.lock:
            self.hand_overs += promoted
            self.refused += not promoted
            self.processing += 1
            self.most_processing = max(self.most_processing, self.processing)
            if self.hand_overs >= self.wanted or (
                pool.max_waiting == 0 and self.refused >= self.wanted
            ):
                self.is_done.set()
        self.pause(1 - delay)
        with self.lock:
            self.processing -= 1
        if delay < 0.02:
            raise OSError("one request in fifty fails")

    @staticmethod
    def pause(delay: float) -> None:
        if delay < 0.3:
            time.sleep(delay / 2000)  # at most 150 microseconds; also gives the GIL away


@pytest.mark.parametrize(
    ("max_running", "max_waiting", "threads", "turns"),
    [(5, 3, 1, 10_000), (0, -1, 8, 5_000), (4, -1, 4, 5_000), (6, 1, 3, 2_500), (3, 0, 1, 1_000)],
)
def test_hand_overs_never_pass_a_cap(max_running, max_waiting, threads, turns, caplog):
    """Defects 3, 4 and 5, with failing requests among them."""
    caplog.set_level("ERROR", "lfscp.pool")
    work = Work(turns)
    pool = AssertingPool(work.handle, "stress", max_running=max_running, max_waiting=max_waiting)
    seen: list[str] = []
    samples = 0

    def sample() -> None:
        nonlocal samples
        while not work.is_done.wait(0.0002):
            state = pool.state()
            samples += 1
            if broken := passed_caps(state):
                seen.append(f"{broken}: {state}")

    sampler = threading.Thread(target=sample)
    sampler.start()
    pool.start(threads)
    is_done = work.is_done.wait(DEADLINE_S)
    still_serving = not pool.is_shutdown
    pool.shutdown()
    assert pool.drain(DEADLINE_S), f"asleep for ever: {pool}"
    work.is_done.set()
    sampler.join()

    assert is_done, f"stopped after {work.hand_overs} hand-overs: {pool}"
    assert still_serving
    assert seen == []
    assert pool.broken == []
    assert work.failures == []
    assert samples > 0
    assert (pool.waiting, pool.running) == (0, 0)
    # The first leader had no promotion; the last promotion may have met the shutdown.
    assert pool.new_leaders >= work.hand_overs
    if max_waiting == 0:
        assert (work.hand_overs, work.most_processing) == (0, 1)
    if max_running:
        assert work.most_processing <= max_running


def test_threads_that_come_and_go_while_caps_change_leave_the_pool_at_work(caplog):
    """Whatever the caps were meanwhile, somebody leads in the end and nobody sleeps for ever."""
    caplog.set_level("ERROR", "lfscp.pool")
    work = Work(wanted=3_000)
    pool = LeaderFollowerPool(work.handle, "changing", max_running=5, max_waiting=3)
    pool.start(1)
    rng = random.Random(11)
    visitors: list[threading.Thread] = []
    while not work.is_done.wait(0.001):
        pool.max_running = rng.choice([1, 2, 3, 5, 8])
        pool.max_waiting = rng.choice([-1, 0, 1, 3])
        if rng.random() < 0.2:
            visitors.append(threading.Thread(target=pool.join))
            visitors[-1].start()
        assert not pool.is_shutdown
    pool.shutdown()
    assert pool.drain(DEADLINE_S), f"asleep for ever: {pool}"
    for visitor in visitors:
        visitor.join(DEADLINE_S)
    assert (pool.waiting, pool.running) == (0, 0)
    assert work.failures == []
