"""The pool: its threads lead, serve and follow in turns; see `lfscp.pool`."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import Final

from lfscp.pool.member_threads import MemberThreads
from lfscp.pool.roles import (
    NO_LIMIT_RUNNING,
    NO_LIMIT_WAITING,
    Heir,
    Now,
    PoolState,
    Roles,
    checked,
)

_log = logging.getLogger("lfscp.pool")

_SAY_AGAIN_S: Final = 60.0


class LeaderFollowerPool:
    """Threads that take turns in leading; see `lfscp.pool`.

    Args:
        handler: called as `handler(pool)` by the leader; it waits for a request, calls
            `promote_new_leader()` and serves the request. When it returns without promoting it is
            called again in the same thread.
        name: threads are called `<name>-<k>`; default `LF_ThreadPool-<n>`, n counts pools.
        max_running: most threads that run, also most that run and wait together; 0 is no limit.
        max_waiting: most threads that wait; -1 is no limit; with 0 requests are served one at a
            time.
        wake_leader: called once by shutdown(), by its thread and without the lock, to end a wait
            for requests. It must also end a wait that begins just afterwards.
        daemon: whether the process may end while threads made by the pool are at work.
        max_idle_s: how long a follower waits before it leaves; None is for ever, as the original.
    Raises:
        TypeError: the handler cannot be called.
        ValueError: a cap is out of range.
    """

    def __init__(
        self,
        handler: Callable[[LeaderFollowerPool], object],
        name: str | None = None,
        max_running: int = NO_LIMIT_RUNNING,
        max_waiting: int = NO_LIMIT_WAITING,
        *,
        wake_leader: Callable[[], object] | None = None,
        daemon: bool = True,
        max_idle_s: float | None = None,
    ) -> None:
        if not callable(handler):
            raise TypeError(f"handler: {handler!r} cannot be called; give a function of the pool")
        self._roles = Roles(max_running, max_waiting)
        self._name = self._roles.label if name is None else name
        self._handler = handler
        self._wake_leader = wake_leader
        # Re-entrant, because a signal handler may call shutdown() in a thread that holds it.
        self._lock = threading.RLock()
        self._empty = threading.Condition(self._lock)
        self._threads = MemberThreads(
            self._name, daemon=daemon, is_shutdown=lambda: self._roles.now.is_shutdown
        )
        self._members: set[threading.Thread] = set()
        self._expected = 0  # threads started that have not joined yet
        self.max_idle_s = max_idle_s
        self._said_no_thread_at = -_SAY_AGAIN_S

    # State: read by any thread, without the lock

    @property
    def name(self) -> str:
        """The pool's name, from which its threads' names are made."""
        return self._name

    @property
    def leader(self) -> str | None:
        """The name of the leading thread; None if there is none."""
        return self.state().leader

    @property
    def waiting(self) -> int:
        """How many followers wait."""
        return self._roles.now.waiting

    @property
    def running(self) -> int:
        """How many threads run: the leader and the processors."""
        return self._roles.now.running

    @property
    def is_shutdown(self) -> bool:
        """Whether shutdown() was called."""
        return self._roles.now.is_shutdown

    @property
    def max_running(self) -> int:
        """Cap on running, and on waiting + running; 0 is no limit. Lowering it evicts nobody."""
        return self._roles.max_running

    @max_running.setter
    def max_running(self, value: int) -> None:
        with self._lock:
            self._roles.max_running = checked("max_running", value, NO_LIMIT_RUNNING)
            self._roles.wake_heir_if_vacant()

    @property
    def max_waiting(self) -> int:
        """Cap on waiting; -1 is no limit. Lowering it evicts nobody."""
        return self._roles.max_waiting

    @max_waiting.setter
    def max_waiting(self, value: int) -> None:
        with self._lock:
            self._roles.max_waiting = checked("max_waiting", value, NO_LIMIT_WAITING)

    @property
    def max_idle_s(self) -> float | None:
        """How long followers wait; None is for ever. Holds for the waits to come."""
        return self._max_idle_s

    @max_idle_s.setter
    def max_idle_s(self, value: float | None) -> None:
        if value is not None and not 0 < value <= threading.TIMEOUT_MAX:
            raise ValueError(f"max_idle_s: {value}; must be above 0, or None for no limit")
        self._max_idle_s = value

    def state(self) -> PoolState:
        """The state of one moment."""
        return self._roles.state()

    def __str__(self) -> str:
        return str(self._roles)

    # Life of a member

    def join(self) -> None:
        """Make the calling thread a member until it leaves: caps are reached, or shutdown.

        Raises:
            RuntimeError: the thread is a member already.
        """
        me = threading.current_thread()
        with self._lock:
            if me in self._members:
                raise RuntimeError(f"{me.name} is a member of {self} already; it joins once")
            self._members.add(me)
        self._live(me, None)

    def start(self, threads: int = 1) -> None:
        """Start threads that join; each leads, waits or leaves as the caps say.

        Args:
            threads: how many, at least 1. None is started after shutdown.
        Raises:
            ValueError: threads is below 1.
            RuntimeError: the system starts no more threads; those started stay.
        """
        if threads < 1:
            raise ValueError(f"threads: {threads}; must be at least 1")
        for _ in range(threads):
            with self._lock:
                self._expected += 1
            is_started = False
            try:
                is_started = self._start_thread(None)
            finally:
                if not is_started:
                    self._give_up_expected()

    def promote_new_leader(self) -> bool:
        """Let another thread lead; called by the leader that has a request to serve.

        Returns:
            True if a leader is on its way. False if none is: a cap is reached (the next processor
            to finish takes the lead), no thread can be started (the caller keeps the lead until it
            is done or another thread is free), or the pool is shut down.
        Raises:
            RuntimeError: the caller is not the leader; nothing has changed.
        """
        me = threading.current_thread()
        with self._lock:
            leader, waiting, running, is_shutdown = self._roles.now
            if is_shutdown:
                return False
            if leader is not me:
                raise RuntimeError(f"{me.name} is not the leader of {self}; only it may promote")
            self._roles.change(None, waiting, running)
            if self._roles.followers and self._roles.has_room_to_run():
                self._roles.wake_heir()
                return True
            # With max_waiting 0 the original starts a thread that leaves at once.
            if not self._roles.has_room_to_run() or self._roles.max_waiting == 0:
                self._roles.debug("Max number of threads reached")
                return False
            self._roles.debug("promote new leader by add new Thread")
            self._roles.heir = heir = Heir(is_new_thread=True)
            self._expected += 1
        return self._start_heir(me, heir)

    def shutdown(self) -> None:
        """Send followers and leader away; processors finish their request. Does not wait."""
        with self._lock:
            self._roles.debug("shutdown")
            is_first = not self._roles.now.is_shutdown
            _, waiting, running, _ = self._roles.now
            self._roles.now = Now(None, waiting, running, True)
            self._roles.heir = None
            while self._roles.followers:
                self._roles.followers.pop().gate.release()
        self._threads.wait_for_starts()
        if is_first and self._wake_leader is not None:
            try:
                self._wake_leader()
            except Exception:  # noqa: BLE001 - not ours; everybody else has been woken
                _log.exception("%s - wake_leader failed; the leader may serve once more", self)

    def drain(self, timeout_s: float | None = None) -> bool:
        """Wait until no member is left; usually after shutdown().

        Args:
            timeout_s: longest wait in seconds; None waits for ever.
        Returns:
            True when the pool is empty, False when the time is over.
        Raises:
            RuntimeError: the caller is a member, and would wait for itself.
        """
        with self._empty:
            if threading.current_thread() in self._members:
                raise RuntimeError("a member cannot wait for the pool to drain; use another thread")
            return self._empty.wait_for(lambda: not self._members and not self._expected, timeout_s)

    # The rest is internal. "Lock held" means by the calling thread

    def _live(self, me: threading.Thread, heir: Heir | None) -> None:
        """Lead, process and follow in turns until it is time to leave; runs in the member."""
        if _log.isEnabledFor(logging.DEBUG):
            _log.debug("Thread: %s JOIN ThreadPool %s", me.name, self._name)
        try:
            leads = self._take_lead_or_wait(me) if heir is None else self._inherit(me, heir)
            while leads:
                self._handle(me)
                leads = self._take_lead_or_wait(me, has_run=True)
        finally:
            if _log.isEnabledFor(logging.DEBUG):
                _log.debug("Thread: %s LEFT ThreadPool %s", me.name, self._name)
            with self._lock:
                self._members.discard(me)
                self._empty.notify_all()

    def _handle(self, me: threading.Thread) -> None:
        """Call the handler, and again while this thread is still the leader."""
        try:
            while self._roles.now.leader is me:
                self._handler(self)
                if self._roles.lead_is_offered:
                    self._withdraw_offer(me)
        except Exception:  # noqa: BLE001 - an error ends this request only
            _log.warning("Exception thrown in %s", me.name, exc_info=True)
            self._shut_down_if_leading(me)
        except BaseException:  # KeyboardInterrupt, SystemExit: this thread's end
            self._shut_down_if_leading(me)
            with self._lock:
                self._roles.end_run(me)
                self._roles.wake_heir_if_vacant()
            raise

    def _withdraw_offer(self, me: threading.Thread) -> None:
        """Keep the lead if no other thread has taken it during the request."""
        with self._lock:
            if self._roles.now.leader is me:
                self._roles.lead_is_offered = False

    def _shut_down_if_leading(self, me: threading.Thread) -> None:
        """End the pool if the leader failed before it promoted; else only the request ends."""
        with self._lock:
            failed_as_leader = self._roles.now.leader is me and not self._roles.lead_is_offered
        if failed_as_leader:
            self.shutdown()

    def _take_lead_or_wait(self, me: threading.Thread, *, has_run: bool = False) -> bool:
        """Lead at once, or follow until it is this thread's turn; False: leave the pool."""
        follower = Heir(is_new_thread=False)
        try:
            with self._lock:
                if has_run:
                    self._roles.end_run(me)
                if not self._roles.may_stay():
                    self._roles.wake_heir_if_vacant()
                    return False
                if self._roles.is_vacant():
                    self._roles.lead(me)
                    return True
                self._roles.follow(me, follower)
            if not self._sleep(follower):
                return False
        except BaseException:  # KeyboardInterrupt in the main thread
            self._withdraw(follower)
            raise
        return self._inherit(me, follower)

    def _sleep(self, follower: Heir) -> bool:
        """Wait for the lead; False if it did not come in time, and the follower leaves."""
        max_idle_s = self._max_idle_s
        if max_idle_s is None:
            return follower.gate.acquire()
        if follower.gate.acquire(timeout=max_idle_s):
            return True
        with self._lock:
            if follower not in self._roles.followers:
                return True  # woken at this very moment
            self._roles.followers.remove(follower)
            self._roles.end_wait(follower)
            self._roles.debug("waited for long enough")
        return False

    def _inherit(self, me: threading.Thread, heir: Heir) -> bool:
        """Take the lead that was promised; False after shutdown."""
        with self._lock:
            if not heir.is_new_thread:
                self._roles.end_wait(heir)
                if _log.isEnabledFor(logging.DEBUG):
                    self._roles.debug(f"{me.name} awaked")
            if self._roles.now.is_shutdown:
                return False
            self._roles.heir = None
            self._roles.lead(me)
            return True

    def _withdraw(self, follower: Heir) -> None:
        """Remove a follower whose wait was interrupted; pass on the lead if it had it."""
        with self._lock:
            if follower in self._roles.followers:
                self._roles.followers.remove(follower)
            if self._roles.heir is follower:
                self._roles.heir = None
            if follower.is_waiting:
                self._roles.end_wait(follower)
            self._roles.wake_heir_if_vacant()

    # Starting threads; lock not held

    def _start_heir(self, me: threading.Thread, heir: Heir) -> bool:
        """Start the thread that is to lead; when that fails the caller keeps the lead."""
        try:
            if self._start_thread(heir):
                return True
        except Exception as error:  # noqa: BLE001 - RuntimeError, MemoryError, what the system says
            self._say_no_thread(error)
        self._give_up_expected()
        with self._lock:
            _, waiting, running, is_shutdown = self._roles.now
            if is_shutdown:
                return False
            self._roles.heir = None
            self._roles.wake_heir_if_vacant()  # another thread may have come to wait for the heir
            if self._roles.heir is not None:
                return True
            self._roles.change(me, waiting, running)
            self._roles.lead_is_offered = True
            return False

    def _say_no_thread(self, problem: Exception) -> None:
        now = time.monotonic()
        if now - self._said_no_thread_at >= _SAY_AGAIN_S:
            self._said_no_thread_at = now
            _log.warning("%s - cannot start a new thread: %s", self, problem)

    def _start_thread(self, heir: Heir | None) -> bool:
        """Start a member thread; False after shutdown."""
        return self._threads.start(lambda: self._run_thread(heir))

    def _run_thread(self, heir: Heir | None) -> None:
        """Be a thread that the pool started."""
        me = threading.current_thread()
        with self._lock:
            self._expected -= 1
            self._members.add(me)
        self._live(me, heir)

    def _give_up_expected(self) -> None:
        with self._lock:
            self._expected -= 1
            self._empty.notify_all()
