"""The rules of a pool: who leads, who follows and who runs, and each change of that.

The pool's lock is held by whoever calls a method here. The state is one tuple, replaced as a whole,
so any thread reads it without the lock.
"""

from __future__ import annotations

import itertools
import logging
import threading
from dataclasses import dataclass
from typing import Final, NamedTuple

_log = logging.getLogger("lfscp.pool")

NO_LIMIT_RUNNING: Final = 0
NO_LIMIT_WAITING: Final = -1

_pool_numbers = itertools.count(1)


@dataclass(frozen=True)
class PoolState:
    """The state of a pool at one moment.

    Args:
        leader: name of the leading thread; None if there is none.
        waiting: followers; one that was notified counts until it has woken.
        running: the leader and the processors.
        max_running: cap on running, and on waiting + running; 0 is no limit.
        max_waiting: cap on waiting; -1 is no limit.
        is_shutdown: whether shutdown() was called.
    """

    leader: str | None
    waiting: int
    running: int
    max_running: int
    max_waiting: int
    is_shutdown: bool


class Now(NamedTuple):
    """The state that is replaced as a whole, so that it is read without the lock."""

    leader: threading.Thread | None
    waiting: int
    running: int
    is_shutdown: bool


class Heir:
    """The next leader: a follower that was woken, or a thread that is being started."""

    __slots__ = ("gate", "is_new_thread", "is_waiting")

    def __init__(self, *, is_new_thread: bool) -> None:
        self.is_new_thread = is_new_thread
        self.is_waiting = False  # counted in the pool's waiting
        self.gate = threading.Lock()  # a follower sleeps on it; whoever wakes it releases it
        self.gate.acquire()


class Roles:
    """Who does what in one pool.

    Args:
        max_running, max_waiting: the caps, as `LeaderFollowerPool` takes them.

    Attributes:
        now: the state.
        followers: asleep, the last to come at the end.
        heir: the next leader; while there is one, no other thread takes the lead.
        lead_is_offered: the leader is busy with a request: any free thread may lead.
    Raises:
        ValueError: a cap is out of range.
    """

    def __init__(self, max_running: int, max_waiting: int) -> None:
        self.label = f"LF_ThreadPool-{next(_pool_numbers)}"
        self.now = Now(None, 0, 0, False)
        self.followers: list[Heir] = []
        self.heir: Heir | None = None
        self.lead_is_offered = False
        self.max_running = checked("max_running", max_running, NO_LIMIT_RUNNING)
        self.max_waiting = checked("max_waiting", max_waiting, NO_LIMIT_WAITING)

    def state(self) -> PoolState:
        """The state of one moment."""
        leader, waiting, running, is_shutdown = self.now
        return PoolState(
            leader=None if leader is None else leader.name,
            waiting=waiting,
            running=running,
            max_running=self.max_running,
            max_waiting=self.max_waiting,
            is_shutdown=is_shutdown,
        )

    def __str__(self) -> str:
        state = self.state()
        return (
            f"{self.label}[leader:{state.leader or 'null'}, waiting:{state.waiting}, "
            f"running: {state.running}({state.max_running}), "
            f"shutdown: {'true' if state.is_shutdown else 'false'}]"
        )

    # Decisions

    def may_stay(self) -> bool:
        """Tell whether one more thread may lead or wait; the rule of join()."""
        _, waiting, running, is_shutdown = self.now
        if is_shutdown:
            return False
        is_needed = running == 0 and self.is_vacant()
        if not is_needed and 0 <= self.max_waiting <= waiting:
            return False
        starting = self.heir is not None and self.heir.is_new_thread
        return self.max_running == 0 or waiting + running + starting < self.max_running

    def is_vacant(self) -> bool:
        """Tell whether a free thread may take the lead."""
        return self.heir is None and (self.now.leader is None or self.lead_is_offered)

    def has_room_to_run(self) -> bool:
        """Tell whether one more thread may run."""
        return self.max_running == 0 or self.now.running < self.max_running

    # Changes

    def change(self, leader: threading.Thread | None, waiting: int, running: int) -> None:
        """Replace the state; all changes but shutdown go through here."""
        is_shutdown = self.now.is_shutdown
        # A signal handler may have shut the pool down in this very thread, lock or not.
        self.now = Now(None if is_shutdown else leader, waiting, running, is_shutdown)

    def follow(self, me: threading.Thread, follower: Heir) -> None:
        """Let a thread wait for the lead."""
        if _log.isEnabledFor(logging.DEBUG):
            self.debug(f"{me.name} enter wait()")
        leader, waiting, running, _ = self.now
        self.change(leader, waiting + 1, running)
        follower.is_waiting = True
        self.followers.append(follower)

    def end_wait(self, follower: Heir) -> None:
        """Count a follower no longer as waiting."""
        leader, waiting, running, _ = self.now
        self.change(leader, waiting - 1, running)
        follower.is_waiting = False

    def lead(self, me: threading.Thread) -> None:
        """Make a thread the leader."""
        _, waiting, running, _ = self.now
        self.change(me, waiting, running)
        self.lead_is_offered = False
        self.debug("New Leader")
        self.change(me, waiting, running + 1)

    def end_run(self, me: threading.Thread) -> None:
        """Count a thread no longer as running; it leads no more."""
        leader, waiting, running, _ = self.now
        self.change(None if leader is me else leader, waiting, running - 1)

    def wake_heir(self) -> None:
        """Promise the lead to the follower that came last, and wake it."""
        self.debug("promote new leader by notify")
        self.heir = self.followers.pop()
        self.heir.gate.release()

    def wake_heir_if_vacant(self) -> None:
        """Wake a follower if no thread leads, as after a cap was changed."""
        if self.followers and self.is_vacant() and self.has_room_to_run():
            self.wake_heir()

    def debug(self, text: str) -> None:
        """Log a change with the state as it is now."""
        if _log.isEnabledFor(logging.DEBUG):
            _log.debug("%s - %s", str(self), text)


def checked(setting: str, value: int, lowest: int) -> int:
    """Return the value of a cap; ValueError when it is below the value that means no limit."""
    if value < lowest:
        raise ValueError(f"{setting}: {value}; must be at least {lowest}, which is no limit")
    return value
