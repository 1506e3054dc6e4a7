"""The parts of a node that work unasked end together."""

from __future__ import annotations

import threading

import pytest

from lfscp.node.background import end_together

DEADLINE_S = 30


def test_no_part_waits_for_the_end_of_another() -> None:
    both_end = threading.Barrier(2, timeout=DEADLINE_S)

    def end() -> None:
        both_end.wait()

    end_together([end, end])
    assert not both_end.broken


def test_a_part_that_fails_to_end_keeps_no_other_from_it() -> None:
    ended = threading.Event()

    def fail() -> None:
        raise OSError("no reason")

    end_together([fail, ended.set])
    assert ended.is_set()


def test_parts_end_where_no_thread_can_be_started(monkeypatch: pytest.MonkeyPatch) -> None:
    def start(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    ended: list[int] = []
    monkeypatch.setattr(threading.Thread, "start", start)
    end_together([lambda: ended.append(1), lambda: ended.append(2)])
    assert ended == [1, 2]
