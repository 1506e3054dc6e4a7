"""Commits the tasks of several threads in one transaction, and so with one sync of the disk.

Rules: the first thread leads and waits for no other. Threads that come meanwhile wait; as soon as
the leader is done, the first of them commits the tasks of all. So a single sender is never held up,
and with many senders each sync serves many. A call returns only after its task is committed.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Final, Generic, TypeVar

from lfscp.processes.forks import follow_forks

Task = TypeVar("Task")
Result = TypeVar("Result")

MAX_GROUP: Final = 64  # tasks in one transaction, so that the first does not wait for too many


class _Ticket(Generic[Task, Result]):
    """One waiting task; `wake` is let go when it is done or when it is its turn to lead."""

    __slots__ = ("error", "is_done", "result", "task", "wake")

    def __init__(self, task: Task) -> None:
        self.task = task
        self.is_done = False
        self.result: Result
        self.error: BaseException | None = None
        self.wake = threading.Lock()
        self.wake.acquire()


class GroupCommit(Generic[Task, Result]):
    """Any thread may call `perform`; a forked child begins anew.

    Args:
        commit: does all tasks of a list in one transaction and returns their results in order;
            when it raises, nothing of it was done, and each is tried on its own.
        most: tasks in one transaction.
        is_tried_alone: False: what `commit` raises for several is raised for each of them instead.
    """

    def __init__(
        self,
        commit: Callable[[list[Task]], list[Result]],
        *,
        most: int = MAX_GROUP,
        is_tried_alone: bool = True,
    ) -> None:
        self._commit = commit
        self._most = most
        self._is_tried_alone = is_tried_alone
        self._reset()
        follow_forks(after_in_child=self._reset)  # a fork in the middle of a commit ends with it

    def _reset(self) -> None:
        self._lock = threading.Lock()
        self._is_led = False
        self._waiting: list[_Ticket[Task, Result]] = []

    def perform(self, task: Task) -> Result:
        """Do a task; it is committed when this returns.

        Raises:
            What `commit` raises for this task, alone unless told otherwise.
        """
        with self._lock:
            ticket: _Ticket[Task, Result] | None = None
            if self._is_led:
                ticket = _Ticket(task)
                self._waiting.append(ticket)
            self._is_led = True
        return self._lead_alone(task) if ticket is None else self._wait(ticket)

    def _lead_alone(self, task: Task) -> Result:
        try:
            (result,) = self._commit([task])
        finally:
            self._resign()
        return result

    def _wait(self, ticket: _Ticket[Task, Result]) -> Result:
        ticket.wake.acquire()  # until done, or until this thread commits for all that wait
        if ticket.is_done:
            return _outcome(ticket)
        with self._lock:
            group = self._waiting[: self._most]
            del self._waiting[: self._most]
        try:
            self._perform_all(group)
        except BaseException as error:  # noqa: BLE001 - the process is to end: it is told to all
            for each in group:
                each.error = error
        finally:
            self._resign()
            for each in group:
                if each is not ticket:
                    each.is_done = True
                    each.wake.release()
        return _outcome(ticket)

    def _perform_all(self, group: list[_Ticket[Task, Result]]) -> None:
        if len(group) > 1:
            try:
                results = self._commit([ticket.task for ticket in group])
                for ticket, result in zip(group, results, strict=True):
                    ticket.result = result
            except Exception:  # one task's fault; it is told when it is alone
                if not self._is_tried_alone:
                    raise
            else:
                return
        for ticket in group:
            try:
                (ticket.result,) = self._commit([ticket.task])
            except BaseException as error:  # noqa: BLE001 - raised again in its own thread
                ticket.error = error

    def _resign(self) -> None:
        with self._lock:
            successor = self._waiting[0] if self._waiting else None
            self._is_led = successor is not None
        if successor is not None:
            successor.wake.release()


def _outcome(ticket: _Ticket[Task, Result]) -> Result:
    if ticket.error is not None:
        raise ticket.error
    return ticket.result
