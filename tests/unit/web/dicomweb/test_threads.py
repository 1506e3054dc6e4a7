"""Functions in threads of their own: what they return and raise, their number and their order."""

from __future__ import annotations

import asyncio
import threading
from contextvars import ContextVar

import pytest

from lfscp.web.dicomweb import threads as module
from lfscp.web.dicomweb.threads import Threads, threads

WAIT_S = 30
NAME: ContextVar[str] = ContextVar("NAME")


def test_a_function_runs_in_another_thread_with_the_context_of_its_caller() -> None:
    async def ask() -> tuple[str, int]:
        NAME.set("caller")
        return await Threads().run(lambda: (NAME.get(), threading.get_ident()))

    name, thread = asyncio.run(ask())

    assert name == "caller"
    assert thread != threading.get_ident()


@pytest.mark.parametrize(
    ("raised", "arrives"), [(ValueError, ValueError), (StopIteration, RuntimeError)]
)
def test_what_a_function_raises_arrives_at_its_caller(
    raised: type[Exception], arrives: type[Exception]
) -> None:
    def fail() -> None:
        raise raised

    with pytest.raises(arrives):
        asyncio.run(Threads().run(fail))


def test_only_so_many_work_at_once_and_the_others_follow() -> None:
    may_go, started = threading.Event(), threading.Semaphore(0)

    def work(number: int) -> int:
        started.release()
        assert may_go.wait(WAIT_S)
        return number

    async def ask() -> tuple[bool, list[int]]:
        pool = Threads(most=2)
        asked = [asyncio.ensure_future(pool.run(work, number)) for number in range(5)]
        await asyncio.sleep(0)
        both = all(started.acquire(timeout=WAIT_S) for _ in range(2))
        is_full = both and not started.acquire(blocking=False)
        may_go.set()
        return is_full, await asyncio.gather(*asked)

    assert asyncio.run(ask()) == (True, [0, 1, 2, 3, 4])


def test_a_thread_with_nothing_to_do_ends_and_another_is_started(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "IDLE_S", 0.01)

    async def ask() -> bool:
        pool = Threads()
        first = await pool.run(threading.current_thread)
        first.join(WAIT_S)
        second = await pool.run(threading.current_thread)
        return first is not second and not first.is_alive()

    assert asyncio.run(ask())


def test_a_caller_that_is_cancelled_gets_nothing_and_the_thread_goes_on() -> None:
    may_go = threading.Event()

    async def ask() -> str:
        pool = Threads(most=1)
        asked = asyncio.ensure_future(pool.run(may_go.wait, WAIT_S))
        await asyncio.sleep(0)
        asked.cancel()
        may_go.set()
        return await pool.run(str, "next")

    assert asyncio.run(ask()) == "next"


def test_an_event_loop_has_threads_of_its_own() -> None:
    async def ask() -> tuple[Threads, Threads]:
        return threads(), threads()

    (first, again), (other, _) = asyncio.run(ask()), asyncio.run(ask())

    assert first is again
    assert first is not other
