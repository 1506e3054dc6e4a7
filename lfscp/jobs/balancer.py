"""Runs a limited number of jobs at once; the others sleep in the order in which they came.

A port of dtools' JobBallancer; it does not know what the work is:

- at most `max_active` pieces run, each in a thread of its own; the others sleep;
- when one ends, by success or error, its dispatcher is called exactly once, in the same thread and
  while its place is still taken; then the next sleeping piece starts in that thread;
- `terminate()` takes no more work, waits until all has run, and gives what is left at its deadline.

Threads exist only while there is work; nothing polls. Beyond the original, work may belong to
groups with limits of their own: the first sleeping piece whose groups have room starts. A
dispatcher may submit its own work again.
"""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Callable, Collection, Hashable
from typing import Final, Generic, TypeVar

Work = TypeVar("Work", bound=Hashable)
Result = TypeVar("Result")

LOGGER: Final = logging.getLogger("lfscp.jobs.balancer")


class TerminatedError(RuntimeError):
    """The balancer takes no more work."""


class Balancer(Generic[Work, Result]):
    """Runs pieces of work in threads.

    Args:
        run: does one piece of work, in a thread of the balancer.
        on_success: the dispatcher of work that succeeded, called with its result.
        on_error: the dispatcher of work that raised an error.
        max_active: how many pieces run at once at most.
        groups: gives the groups of a piece of work; called when it may start.
        max_per_group: how many pieces of one group run at once at most; 0 is no limit.
    """

    def __init__(
        self,
        run: Callable[[Work], Result],
        *,
        on_success: Callable[[Work, Result], None],
        on_error: Callable[[Work, Exception], None],
        max_active: int = 10,
        groups: Callable[[Work], Collection[Hashable]] = lambda _work: (),
        max_per_group: int = 0,
    ) -> None:
        if max_active < 1:
            raise ValueError(f"max_active {max_active}: expected 1 or more")
        self._run = run
        self._on_success = on_success
        self._on_error = on_error
        self._max_active = max_active
        self._groups = groups
        self._max_per_group = max_per_group
        self._threads = 0
        self._changed = threading.Condition()
        self._sleeping: dict[Work, None] = {}  # in order of arrival
        self._active: dict[Work, tuple[Hashable, ...]] = {}  # with its groups
        self._in_group: Counter[Hashable] = Counter()
        self._terminated = False

    @property
    def is_terminated(self) -> bool:
        """Whether no more work is taken."""
        return self._terminated

    def submit(self, work: Work) -> None:
        """Take a piece of work: it starts at once, or sleeps.

        Work that is active runs again when it has ended.

        Raises:
            TerminatedError: after `terminate()`.
            ValueError: it sleeps here already.
        """
        with self._changed:
            if self._terminated:
                raise TerminatedError("no more jobs are taken, the balancer terminates")
            if work in self._sleeping:
                raise ValueError(f"{work!r} sleeps here already")
            self._sleeping[work] = None
            started = self._take() if len(self._active) < self._max_active else None
        if started is not None:
            self._start(started)

    def remove(self, work: Work) -> bool:
        """Remove a sleeping piece of work; no dispatcher is called. False if it does not sleep."""
        with self._changed:
            found = work in self._sleeping
            self._sleeping.pop(work, None)
            self._changed.notify_all()
        return found

    def remove_all(self) -> list[Work]:
        """Remove all sleeping work; no dispatcher is called."""
        with self._changed:
            removed = list(self._sleeping)
            self._sleeping.clear()
            self._changed.notify_all()
        return removed

    def terminate(self, timeout_s: float | None = None) -> list[Work]:
        """Take no more work, and wait until all has run and was dispatched.

        Args:
            timeout_s: the longest wait; None waits for ever.
        Returns:
            The work that is left, active before sleeping.
        """
        with self._changed:
            self._terminated = True
            self._changed.wait_for(lambda: not (self._active or self._sleeping), timeout_s)
            return [*self._active, *self._sleeping]

    # --- the threads ---

    def _start(self, work: Work | None) -> None:
        while work is not None:
            self._threads += 1
            name = f"lfscp-job-{self._threads}"
            thread = threading.Thread(target=self._work_off, args=(work,), name=name, daemon=True)
            try:
                thread.start()
            except RuntimeError as error:  # the system gives no thread
                self._dispatch(work, error)
                work = self._end(work)
            else:
                return

    def _work_off(self, work: Work | None) -> None:
        """Run one piece of work, then those that may start after it."""
        while work is not None:
            self._run_one(work)
            work = self._end(work)

    def _run_one(self, work: Work) -> None:
        try:
            result = self._run(work)
        except Exception as error:  # noqa: BLE001 - any error is an outcome
            self._dispatch(work, error)
            return
        try:
            self._on_success(work, result)
        except Exception:
            LOGGER.exception("The dispatcher of %r failed", work)

    def _dispatch(self, work: Work, error: Exception) -> None:
        try:
            self._on_error(work, error)
        except Exception:
            LOGGER.exception("The dispatcher of %r failed", work)

    def _end(self, work: Work) -> Work | None:
        """Free the place; gives the work to start in this thread, and starts others in new ones."""
        with self._changed:
            self._in_group.subtract(self._active.pop(work))
            self._in_group += Counter()  # forget the groups that are at 0
            started = []
            while len(self._active) < self._max_active:
                following = self._take()
                if following is None:
                    break
                started.append(following)
            self._changed.notify_all()
        for other in started[1:]:
            self._start(other)
        return started[0] if started else None

    def _take(self) -> Work | None:
        """Make the first sleeping piece that may run active; under the lock."""
        for work in self._sleeping:
            if work in self._active:
                continue
            groups = tuple(self._groups(work)) if self._max_per_group else ()
            if all(self._in_group[group] < self._max_per_group for group in groups):
                del self._sleeping[work]
                self._active[work] = groups
                self._in_group.update(groups)
                return work
        return None
