"""Work that is done while its caller goes on."""

from __future__ import annotations

import threading
from contextvars import ContextVar

import pytest

from lfscp.web.dicomweb.storing.work_behind import WorkBehind

WAIT_S = 30
SENDER: ContextVar[str] = ContextVar("SENDER", default="")


def threads() -> list[str]:
    return [each.name for each in threading.enumerate() if each.name.startswith("lfscp-stow")]


def test_one_piece_of_work_needs_no_thread():
    behind, done = WorkBehind(), []
    behind.add(lambda: done.append(threading.current_thread()))
    assert done == []
    behind.wait()
    assert done == [threading.current_thread()]
    behind.close()


def test_it_is_done_while_the_caller_goes_on():
    behind, goes_on, done = WorkBehind(), threading.Event(), []
    behind.add(lambda: done.append(goes_on.wait(WAIT_S)))
    behind.start()
    assert threads()
    goes_on.set()
    behind.close()
    assert done == [True]
    assert not threads()


def test_one_piece_is_done_after_the_other():
    behind, done = WorkBehind(), []
    for number in range(100):
        behind.add(lambda number=number: done.append(number))
        behind.start()
    behind.close()
    assert done == list(range(100))


def test_without_another_thread_who_waits_does_it(monkeypatch):
    def no_more(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    behind, done = WorkBehind(), []
    behind.add(lambda: done.append(threading.current_thread()))
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", no_more)
        behind.start()
        behind.add(lambda: done.append(2))
        assert done == [threading.current_thread()]
    behind.start()
    behind.close()
    assert done == [threading.current_thread(), 2]


def test_what_one_raises_is_raised_to_who_adds_the_next():
    behind = WorkBehind()
    behind.add(lambda: [][0])
    behind.start()
    with pytest.raises(IndexError):
        behind.add(lambda: None)
    behind.close()


def test_the_thread_ends_whatever_is_raised():
    behind = WorkBehind()
    behind.add(lambda: None)
    behind.start()
    behind.add(lambda: [][0])
    with pytest.raises(IndexError):
        behind.close()
    assert not threads()


def test_it_knows_for_whom_it_works():
    behind, found = WorkBehind(), []
    token = SENDER.set("192.0.2.1")
    try:
        behind.add(lambda: found.append(SENDER.get()))
        behind.start()
    finally:
        SENDER.reset(token)
    behind.close()
    assert found == ["192.0.2.1"]
