"""The balancer: never more than the cap, each dispatched once, terminate waits for the last."""

from __future__ import annotations

import threading
from collections import Counter
from typing import Any

import pytest

from lfscp.jobs.balancer import Balancer, TerminatedError

DEADLINE_S = 60


class Work:
    """Handlers that note what happens, and hold work back when they are told to."""

    def __init__(self, *, held: bool = False, fails: Any = lambda _work: False) -> None:
        self.lock = threading.Lock()
        self.running = 0
        self.most_running = 0
        self.started: list[Any] = []
        self.dispatched: Counter[Any] = Counter()
        self.results: dict[Any, Any] = {}
        self.errors: dict[Any, Exception] = {}
        self.gate = threading.Semaphore(0)
        self.held = held
        self.fails = fails
        self.started_one = threading.Semaphore(0)

    def run(self, work: Any) -> str:
        with self.lock:
            self.running += 1
            self.most_running = max(self.most_running, self.running)
            self.started.append(work)
        self.started_one.release()
        if self.held:
            assert self.gate.acquire(timeout=DEADLINE_S)
        with self.lock:
            self.running -= 1
        if self.fails(work):
            raise ValueError(f"{work} failed")
        return f"result of {work}"

    def success(self, work: Any, result: Any) -> None:
        with self.lock:
            self.dispatched[work] += 1
            self.results[work] = result

    def error(self, work: Any, error: Exception) -> None:
        with self.lock:
            self.dispatched[work] += 1
            self.errors[work] = error

    def balancer(self, **options: Any) -> Balancer[Any, str]:
        return Balancer(self.run, on_success=self.success, on_error=self.error, **options)


@pytest.mark.parametrize("jobs", [40, 10_000])
def test_a_load_never_passes_the_cap_and_each_job_is_dispatched_once(jobs: int) -> None:
    work = Work(fails=lambda number: number % 7 == 0)
    balancer = work.balancer(max_active=10)
    samples = []
    for number in range(jobs):
        balancer.submit(number)
        if number % 10 == 0:
            samples.append(len(balancer._active))
    assert balancer.terminate(DEADLINE_S) == []
    assert work.most_running <= 10
    assert max(samples) <= 10
    assert work.running == 0
    assert set(work.dispatched) == set(range(jobs))
    assert set(work.dispatched.values()) == {1}
    assert set(work.errors) == set(range(0, jobs, 7))


def test_forty_held_jobs_fill_the_cap_and_no_more() -> None:
    work = Work(held=True)
    balancer = work.balancer(max_active=10)
    for number in range(40):
        balancer.submit(number)
    for _ in range(10):
        assert work.started_one.acquire(timeout=DEADLINE_S)
    assert len(balancer._active) == 10
    assert list(balancer._sleeping) == list(range(10, 40))
    work.gate.release(40)
    assert balancer.terminate(DEADLINE_S) == []
    assert work.most_running == 10


def test_sleeping_jobs_start_in_the_order_they_came() -> None:
    work = Work(held=True)
    balancer = work.balancer(max_active=1)
    for number in range(20):
        balancer.submit(number)
    work.gate.release(20)
    assert balancer.terminate(DEADLINE_S) == []
    assert work.started == list(range(20))


def test_a_dispatcher_is_called_while_the_place_is_still_taken() -> None:
    active_at_dispatch = []

    def note(work: str, _result: Any) -> None:
        active_at_dispatch.append((work, list(balancer._active)))

    balancer: Balancer[str, Any] = Balancer(
        lambda work: work, on_success=note, on_error=note, max_active=1
    )
    balancer.submit("a")
    balancer.submit("b")
    assert balancer.terminate(DEADLINE_S) == []
    assert active_at_dispatch == [("a", ["a"]), ("b", ["b"])]


def test_a_dispatcher_that_fails_keeps_nothing_from_running(
    caplog: pytest.LogCaptureFixture,
) -> None:
    work = Work()

    def broken(_work: Any, _result: Any) -> None:
        raise RuntimeError("the dispatcher is broken")

    balancer: Balancer[int, Any] = Balancer(
        work.run, on_success=broken, on_error=broken, max_active=1
    )
    for number in range(3):
        balancer.submit(number)
    assert balancer.terminate(DEADLINE_S) == []
    assert work.started == [0, 1, 2]
    assert "dispatcher of 2 failed" in caplog.text


def test_terminate_returns_only_after_the_last_and_takes_no_more() -> None:
    work = Work(held=True)
    balancer = work.balancer(max_active=2)
    for number in range(5):
        balancer.submit(number)
    ended = threading.Event()

    def terminate() -> None:
        assert balancer.terminate() == []
        ended.set()

    thread = threading.Thread(target=terminate)
    thread.start()
    for _ in range(4):
        work.gate.release()
        assert work.started_one.acquire(timeout=DEADLINE_S)
    assert not ended.is_set()
    with pytest.raises(TerminatedError):
        balancer.submit(99)
    work.gate.release()
    thread.join(DEADLINE_S)
    assert ended.is_set()
    assert len(work.dispatched) == 5


def test_terminate_says_what_was_left_at_its_deadline() -> None:
    work = Work(held=True)
    balancer = work.balancer(max_active=1)
    balancer.submit("active")
    balancer.submit("sleeping")
    assert work.started_one.acquire(timeout=DEADLINE_S)
    assert balancer.terminate(0.01) == ["active", "sleeping"]
    work.gate.release(2)
    assert balancer.terminate(DEADLINE_S) == []


def test_a_sleeping_job_can_be_taken_out_and_is_not_dispatched() -> None:
    work = Work(held=True)
    balancer = work.balancer(max_active=1)
    for name in ("a", "b", "c"):
        balancer.submit(name)
    assert work.started_one.acquire(timeout=DEADLINE_S)
    assert balancer.remove("b")
    assert not balancer.remove("a"), "an active one is not taken out"
    work.gate.release(3)
    assert balancer.terminate(DEADLINE_S) == []
    assert set(work.dispatched) == {"a", "c"}


def test_a_group_has_its_own_limit_and_does_not_hold_up_others() -> None:
    work = Work(held=True)
    balancer = work.balancer(max_active=3, groups=lambda name: [name[0]], max_per_group=1)
    for name in ("a1", "a2", "b1"):
        balancer.submit(name)
    for _ in range(2):
        assert work.started_one.acquire(timeout=DEADLINE_S)
    assert list(balancer._active) == ["a1", "b1"]
    assert list(balancer._sleeping) == ["a2"]
    work.gate.release(3)
    assert balancer.terminate(DEADLINE_S) == []
    assert sorted(work.started) == ["a1", "a2", "b1"]


def test_a_group_is_free_again_although_its_work_is_forgotten_by_then() -> None:
    groups = {"a": ["peer"], "b": ["peer"]}
    work = Work()
    balancer = Balancer(
        work.run,
        on_success=lambda name, _result: groups.pop(name),
        on_error=work.error,
        groups=lambda name: groups.get(name, []),
        max_per_group=1,
    )
    balancer.submit("a")
    balancer.submit("b")
    assert balancer.terminate(DEADLINE_S) == []
    assert work.started == ["a", "b"]


def test_work_can_be_submitted_again_by_its_dispatcher() -> None:
    runs: Counter[str] = Counter()
    done = threading.Event()

    def run(name: str) -> None:
        runs[name] += 1

    def again(name: str, _result: Any) -> None:
        if runs[name] < 3:
            balancer.submit(name)
        else:
            done.set()

    balancer: Balancer[str, None] = Balancer(run, on_success=again, on_error=again)
    balancer.submit("a")
    assert done.wait(DEADLINE_S)
    assert balancer.terminate(DEADLINE_S) == []
    assert runs == {"a": 3}


def test_a_cap_below_one_is_refused() -> None:
    with pytest.raises(ValueError, match="max_active 0"):
        Work().balancer(max_active=0)


def test_when_the_system_gives_no_thread_the_job_ends_by_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    work = Work()
    balancer = work.balancer(max_active=1)

    def refuse(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", refuse)
        balancer.submit("a")
    balancer.submit("b")
    assert balancer.terminate(DEADLINE_S) == []
    assert str(work.errors["a"]) == "can't start new thread"
    assert work.results == {"b": "result of b"}
