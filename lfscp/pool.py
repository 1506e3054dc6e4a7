"""Leader/follower thread pool: one thread waits for work, wakes its successor, then does the work.

A port of LF_ThreadPool of dcm4che 1.4. One member is the leader: it alone waits for the next
request (in accept, usually). When it has one, it promotes a new leader and becomes a processor.
After the request it leads again, follows or leaves. There is no queue, and no request goes from one
thread to another.

Rules kept here:
- Conditions are tested and the state is changed under one lock, so both caps hold at all times.
- After a promotion that returns True there is a leader, or an heir on its way with a reserved
  place. While there is an heir, no other thread takes the lead.
- No thread polls. Each follower sleeps on a lock of its own, and exactly one is woken: the one that
  came last, whose stack and caches are the warmest. So the others sleep on, and with `max_idle_s`
  each of them leaves after so long.
- The state is one tuple, replaced as a whole, so any thread reads it without the lock.

The pool knows nothing of sockets: the handler accepts, and `wake_leader` wakes it.
"""

from __future__ import annotations

import itertools
import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, NamedTuple

_log = logging.getLogger("lfscp.pool")

NO_LIMIT_RUNNING: Final = 0
NO_LIMIT_WAITING: Final = -1
_SAY_AGAIN_S: Final = 60.0

_pool_numbers = itertools.count(1)
_names_in_use: set[str] = set()
_names_lock = threading.Lock()


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


class _Now(NamedTuple):
    """The state that is replaced as a whole, so that it is read without the lock."""

    leader: threading.Thread | None
    waiting: int
    running: int
    is_shutdown: bool


class _Heir:
    """The next leader: a follower that was woken, or a thread that is being started."""

    __slots__ = ("gate", "is_new_thread", "is_waiting")

    def __init__(self, *, is_new_thread: bool) -> None:
        self.is_new_thread = is_new_thread
        self.is_waiting = False  # counted in the pool's waiting
        self.gate = threading.Lock()  # a follower sleeps on it; whoever wakes it releases it
        self.gate.acquire()


class LeaderFollowerPool:
    """Threads that take turns in leading; see the head of the module.

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
        self._label = f"LF_ThreadPool-{next(_pool_numbers)}"
        self._name = self._label if name is None else name
        self._handler = handler
        self._wake_leader = wake_leader
        self._daemon = daemon
        # Re-entrant, because a signal handler may call shutdown() in a thread that holds it.
        self._lock = threading.RLock()
        self._empty = threading.Condition(self._lock)
        # Held while a thread is started, so that none is started after shutdown() has returned.
        # Not the pool's lock: the new thread needs that one to lead, and need not wait for us.
        self._start_lock = threading.RLock()
        self._now = _Now(None, 0, 0, False)
        self._followers: list[_Heir] = []  # asleep, the last to come at the end
        self._heir: _Heir | None = None
        self._lead_is_offered = False  # the leader is busy with a request: any free thread may lead
        self._members: set[threading.Thread] = set()
        self._expected = 0  # threads started that have not joined yet
        self._thread_numbers = itertools.count(1)
        self._max_running = _checked("max_running", max_running, NO_LIMIT_RUNNING)
        self._max_waiting = _checked("max_waiting", max_waiting, NO_LIMIT_WAITING)
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
        return self._now.waiting

    @property
    def running(self) -> int:
        """How many threads run: the leader and the processors."""
        return self._now.running

    @property
    def is_shutdown(self) -> bool:
        """Whether shutdown() was called."""
        return self._now.is_shutdown

    @property
    def max_running(self) -> int:
        """Cap on running, and on waiting + running; 0 is no limit. Lowering it evicts nobody."""
        return self._max_running

    @max_running.setter
    def max_running(self, value: int) -> None:
        with self._lock:
            self._max_running = _checked("max_running", value, NO_LIMIT_RUNNING)
            self._wake_heir_if_vacant()

    @property
    def max_waiting(self) -> int:
        """Cap on waiting; -1 is no limit. Lowering it evicts nobody."""
        return self._max_waiting

    @max_waiting.setter
    def max_waiting(self, value: int) -> None:
        with self._lock:
            self._max_waiting = _checked("max_waiting", value, NO_LIMIT_WAITING)

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
        leader, waiting, running, is_shutdown = self._now
        return PoolState(
            leader=None if leader is None else leader.name,
            waiting=waiting,
            running=running,
            max_running=self._max_running,
            max_waiting=self._max_waiting,
            is_shutdown=is_shutdown,
        )

    def __str__(self) -> str:
        state = self.state()
        return (
            f"{self._label}[leader:{state.leader or 'null'}, waiting:{state.waiting}, "
            f"running: {state.running}({state.max_running}), "
            f"shutdown: {'true' if state.is_shutdown else 'false'}]"
        )

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
            leader, waiting, running, is_shutdown = self._now
            if is_shutdown:
                return False
            if leader is not me:
                raise RuntimeError(f"{me.name} is not the leader of {self}; only it may promote")
            self._change(None, waiting, running)
            if self._followers and self._has_room_to_run():
                self._wake_heir()
                return True
            # With max_waiting 0 the original starts a thread that leaves at once.
            if not self._has_room_to_run() or self._max_waiting == 0:
                self._debug("Max number of threads reached")
                return False
            self._debug("promote new leader by add new Thread")
            self._heir = heir = _Heir(is_new_thread=True)
            self._expected += 1
        return self._start_heir(me, heir)

    def shutdown(self) -> None:
        """Send followers and leader away; processors finish their request. Does not wait."""
        with self._lock:
            self._debug("shutdown")
            is_first = not self._now.is_shutdown
            _, waiting, running, _ = self._now
            self._now = _Now(None, waiting, running, True)
            self._heir = None
            while self._followers:
                self._followers.pop().gate.release()
        with self._start_lock:
            pass  # a start that was under way is over; the next start sees the flag
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

    def _live(self, me: threading.Thread, heir: _Heir | None) -> None:
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
            while self._now.leader is me:
                self._handler(self)
                if self._lead_is_offered:
                    self._withdraw_offer(me)
        except Exception:  # noqa: BLE001 - an error ends this request only
            _log.warning("Exception thrown in %s", me.name, exc_info=True)
            self._shut_down_if_leading(me)
        except BaseException:  # KeyboardInterrupt, SystemExit: this thread's end
            self._shut_down_if_leading(me)
            with self._lock:
                self._end_run(me)
                self._wake_heir_if_vacant()
            raise

    def _withdraw_offer(self, me: threading.Thread) -> None:
        """Keep the lead if no other thread has taken it during the request."""
        with self._lock:
            if self._now.leader is me:
                self._lead_is_offered = False

    def _shut_down_if_leading(self, me: threading.Thread) -> None:
        """End the pool if the leader failed before it promoted; else only the request ends."""
        with self._lock:
            failed_as_leader = self._now.leader is me and not self._lead_is_offered
        if failed_as_leader:
            self.shutdown()

    def _take_lead_or_wait(self, me: threading.Thread, *, has_run: bool = False) -> bool:
        """Lead at once, or follow until it is this thread's turn; False: leave the pool."""
        follower = _Heir(is_new_thread=False)
        try:
            with self._lock:
                if has_run:
                    self._end_run(me)
                if not self._may_stay():
                    self._wake_heir_if_vacant()
                    return False
                if self._is_vacant():
                    self._lead(me)
                    return True
                self._follow(me, follower)
            if not self._sleep(follower):
                return False
        except BaseException:  # KeyboardInterrupt in the main thread
            self._withdraw(follower)
            raise
        return self._inherit(me, follower)

    def _sleep(self, follower: _Heir) -> bool:
        """Wait for the lead; False if it did not come in time, and the follower leaves."""
        max_idle_s = self._max_idle_s
        if max_idle_s is None:
            return follower.gate.acquire()
        if follower.gate.acquire(timeout=max_idle_s):
            return True
        with self._lock:
            if follower not in self._followers:
                return True  # woken at this very moment
            self._followers.remove(follower)
            self._end_wait(follower)
            self._debug("waited for long enough")
        return False

    def _inherit(self, me: threading.Thread, heir: _Heir) -> bool:
        """Take the lead that was promised; False after shutdown."""
        with self._lock:
            if not heir.is_new_thread:
                self._end_wait(heir)
                if _log.isEnabledFor(logging.DEBUG):
                    self._debug(f"{me.name} awaked")
            if self._now.is_shutdown:
                return False
            self._heir = None
            self._lead(me)
            return True

    def _withdraw(self, follower: _Heir) -> None:
        """Remove a follower whose wait was interrupted; pass on the lead if it had it."""
        with self._lock:
            if follower in self._followers:
                self._followers.remove(follower)
            if self._heir is follower:
                self._heir = None
            if follower.is_waiting:
                self._end_wait(follower)
            self._wake_heir_if_vacant()

    # Decisions and changes of state; lock held

    def _may_stay(self) -> bool:
        """Tell whether one more thread may lead or wait; the rule of join()."""
        _, waiting, running, is_shutdown = self._now
        if is_shutdown:
            return False
        is_needed = running == 0 and self._is_vacant()
        if not is_needed and 0 <= self._max_waiting <= waiting:
            return False
        starting = self._heir is not None and self._heir.is_new_thread
        return self._max_running == 0 or waiting + running + starting < self._max_running

    def _is_vacant(self) -> bool:
        """Tell whether a free thread may take the lead."""
        return self._heir is None and (self._now.leader is None or self._lead_is_offered)

    def _has_room_to_run(self) -> bool:
        return self._max_running == 0 or self._now.running < self._max_running

    def _change(self, leader: threading.Thread | None, waiting: int, running: int) -> None:
        """Replace the state; all changes but shutdown go through here."""
        is_shutdown = self._now.is_shutdown
        # A signal handler may have shut the pool down in this very thread, lock or not.
        self._now = _Now(None if is_shutdown else leader, waiting, running, is_shutdown)

    def _follow(self, me: threading.Thread, follower: _Heir) -> None:
        if _log.isEnabledFor(logging.DEBUG):
            self._debug(f"{me.name} enter wait()")
        leader, waiting, running, _ = self._now
        self._change(leader, waiting + 1, running)
        follower.is_waiting = True
        self._followers.append(follower)

    def _end_wait(self, follower: _Heir) -> None:
        leader, waiting, running, _ = self._now
        self._change(leader, waiting - 1, running)
        follower.is_waiting = False

    def _lead(self, me: threading.Thread) -> None:
        _, waiting, running, _ = self._now
        self._change(me, waiting, running)
        self._lead_is_offered = False
        self._debug("New Leader")
        self._change(me, waiting, running + 1)

    def _end_run(self, me: threading.Thread) -> None:
        leader, waiting, running, _ = self._now
        self._change(None if leader is me else leader, waiting, running - 1)

    def _wake_heir(self) -> None:
        self._debug("promote new leader by notify")
        self._heir = self._followers.pop()
        self._heir.gate.release()

    def _wake_heir_if_vacant(self) -> None:
        """Wake a follower if no thread leads, as after a cap was changed."""
        if self._followers and self._is_vacant() and self._has_room_to_run():
            self._wake_heir()

    def _debug(self, text: str) -> None:
        if _log.isEnabledFor(logging.DEBUG):
            _log.debug("%s - %s", str(self), text)

    # Starting threads; lock not held

    def _start_heir(self, me: threading.Thread, heir: _Heir) -> bool:
        """Start the thread that is to lead; when that fails the caller keeps the lead."""
        try:
            if self._start_thread(heir):
                return True
        except Exception as error:  # noqa: BLE001 - RuntimeError, MemoryError, what the system says
            self._say_no_thread(error)
        self._give_up_expected()
        with self._lock:
            _, waiting, running, is_shutdown = self._now
            if is_shutdown:
                return False
            self._heir = None
            self._wake_heir_if_vacant()  # another thread may have come to wait for the heir
            if self._heir is not None:
                return True
            self._change(me, waiting, running)
            self._lead_is_offered = True
            return False

    def _say_no_thread(self, problem: Exception) -> None:
        now = time.monotonic()
        if now - self._said_no_thread_at >= _SAY_AGAIN_S:
            self._said_no_thread_at = now
            _log.warning("%s - cannot start a new thread: %s", self, problem)

    def _start_thread(self, heir: _Heir | None) -> bool:
        """Start a member thread; False after shutdown."""
        name = self._reserve_thread_name()
        thread = threading.Thread(
            target=self._run_thread, args=(heir,), name=name, daemon=self._daemon
        )
        is_started = False
        try:
            with self._start_lock:
                if not self._now.is_shutdown:
                    thread.start()
                    is_started = True
        finally:
            if not is_started:
                _release_thread_name(name)
        return is_started

    def _run_thread(self, heir: _Heir | None) -> None:
        """Be a thread that the pool started."""
        me = threading.current_thread()
        with self._lock:
            self._expected -= 1
            self._members.add(me)
        try:
            self._live(me, heir)
        finally:
            _release_thread_name(me.name)

    def _give_up_expected(self) -> None:
        with self._lock:
            self._expected -= 1
            self._empty.notify_all()

    def _reserve_thread_name(self) -> str:
        """Return a name that no pool's thread has, also when two pools have the same name."""
        with _names_lock:
            while (name := f"{self._name}-{next(self._thread_numbers)}") in _names_in_use:
                pass
            _names_in_use.add(name)
        return name


def _release_thread_name(name: str) -> None:
    with _names_lock:
        _names_in_use.discard(name)


def _checked(setting: str, value: int, lowest: int) -> int:
    """Return the value of a cap; ValueError when it is below the value that means no limit."""
    if value < lowest:
        raise ValueError(f"{setting}: {value}; must be at least {lowest}, which is no limit")
    return value
