"""Group commit: who waits shares the next commit; nobody's error is another's."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

from lfscp.archive.index.database.group_commit import GroupCommit

DONE_S = 20
INTERRUPTS = -1000


class Commits:
    """A commit that notes its groups, and whose first waits until it is let go."""

    def __init__(self) -> None:
        self.groups: list[list[int]] = []
        self.is_leading = threading.Event()
        self.go_on = threading.Event()

    def __call__(self, tasks: list[int]) -> list[int]:
        self.groups.append(list(tasks))
        if not self.is_leading.is_set():
            self.is_leading.set()
            assert self.go_on.wait(DONE_S)
        if INTERRUPTS in tasks:
            raise KeyboardInterrupt
        if any(task < 0 for task in tasks):
            raise ValueError(f"not {min(tasks)}")
        return [task * 10 for task in tasks]


def started(work: Callable[[], None]) -> threading.Thread:
    thread = threading.Thread(target=work)
    thread.start()
    return thread


def performed_together(
    commits: Commits, tasks: list[int], **options: Any
) -> dict[int, int | BaseException]:
    """One task (0) leads; the others come while it commits. The outcome of each."""
    group: GroupCommit[int, int] = GroupCommit(commits, **options)
    outcomes: dict[int, int | BaseException] = {}

    def perform(task: int) -> None:
        try:
            outcomes[task] = group.perform(task)
        except (ValueError, KeyboardInterrupt) as error:
            outcomes[task] = error

    threads = [started(lambda: perform(0))]
    assert commits.is_leading.wait(DONE_S)
    for task in tasks:
        waiting = len(group._waiting)
        threads.append(started(lambda task=task: perform(task)))  # type: ignore[misc]
        while len(group._waiting) == waiting:  # until it stands in line
            pass
    commits.go_on.set()
    for thread in threads:
        thread.join(DONE_S)
        assert not thread.is_alive()
    return outcomes


def test_a_single_sender_is_committed_at_once_and_alone() -> None:
    commits = Commits()
    commits.go_on.set()
    group: GroupCommit[int, int] = GroupCommit(commits)
    assert [group.perform(task) for task in (1, 2, 3)] == [10, 20, 30]
    assert commits.groups == [[1], [2], [3]]


def test_all_who_wait_share_the_next_commit() -> None:
    commits = Commits()
    outcomes = performed_together(commits, [1, 2, 3])
    assert commits.groups == [[0], [1, 2, 3]]
    assert outcomes == {0: 0, 1: 10, 2: 20, 3: 30}


def test_an_error_is_told_to_the_one_who_caused_it() -> None:
    commits = Commits()
    outcomes = performed_together(commits, [1, -2, 3])
    assert commits.groups == [[0], [1, -2, 3], [1], [-2], [3]]
    assert isinstance(outcomes.pop(-2), ValueError)
    assert outcomes == {0: 0, 1: 10, 3: 30}


def test_an_interrupt_is_told_to_all_and_tried_no_more() -> None:
    commits = Commits()
    outcomes = performed_together(commits, [1, INTERRUPTS, 3])
    assert commits.groups == [[0], [1, INTERRUPTS, 3]]
    assert outcomes.pop(0) == 0
    assert [type(outcome) for outcome in outcomes.values()] == 3 * [KeyboardInterrupt]


def test_a_group_is_bounded_and_the_rest_follow() -> None:
    commits = Commits()
    outcomes = performed_together(commits, list(range(1, 101)))
    assert [len(group) for group in commits.groups] == [1, 64, 36]
    assert outcomes == {task: task * 10 for task in range(101)}


def test_a_group_may_be_limited() -> None:
    commits = Commits()
    outcomes = performed_together(commits, list(range(1, 8)), most=3)
    assert [len(group) for group in commits.groups] == [1, 3, 3, 1]
    assert outcomes == {task: task * 10 for task in range(8)}


def test_an_error_of_one_may_be_told_to_all_so_that_each_tries_again_by_itself() -> None:
    commits = Commits()
    outcomes = performed_together(commits, [1, -2, 3], is_tried_alone=False)
    assert commits.groups == [[0], [1, -2, 3]]
    assert outcomes.pop(0) == 0
    assert {str(error) for error in outcomes.values()} == {"not -2"}


def test_an_error_of_the_leader_leaves_the_lead_free() -> None:
    commits = Commits()
    commits.go_on.set()
    group: GroupCommit[int, int] = GroupCommit(commits)
    with pytest.raises(ValueError, match="not -1"):
        group.perform(-1)
    assert group.perform(1) == 10


def test_a_hammered_group_loses_nothing() -> None:
    committed: list[int] = []

    def commit(tasks: list[int]) -> list[int]:
        committed.extend(tasks)
        return tasks

    group: GroupCommit[int, int] = GroupCommit(commit)

    def perform(first: int) -> None:
        for task in range(first, first + 500):
            assert group.perform(task) == task

    threads = [started(lambda first=first: perform(first)) for first in range(0, 4000, 500)]  # type: ignore[misc]
    for thread in threads:
        thread.join(DONE_S)
        assert not thread.is_alive()
    assert sorted(committed) == list(range(4000))
