"""Keeps connections that have not asked for an association yet, without a thread.

A connection is worth a thread once what it has sent can be answered: a whole A-ASSOCIATE-RQ, or
the first message of a TLS handshake, behind the PROXY protocol's header where one is due. If
the bytes can become none of these, it gets a thread at once, which refuses it.

Rules kept here:
- Bytes are looked at, never taken (MSG_PEEK): the thread that serves finds all of them.
- The numbers are bounded, for each address and for all. Who comes is always let in; the one that
  has waited the longest gives its place, and is closed unread.
- Those that ask are served in turn by address, and of one address only so many begin at the same
  time: who sends thousands holds up himself.
- Whoever says too little for `timeout_s` is closed unread.
- Only the leader works in here. The kernel tells it of new bytes, once for each time they come.

What it does not do: it decodes no PDU and knows no limits of associations.
"""

from __future__ import annotations

import select
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum
from itertools import islice
from typing import Final

from lfscp.observe.metrics import UNASSOCIATED
from lfscp.server.fair_queue import FairQueue
from lfscp.server.first_bytes import LOOKED_AT, bytes_wanted
from lfscp.server.listener import Address, Listener, NothingAcceptedError
from lfscp.server.proxy_protocol import named_source

MAX: Final = 1000
MAX_OF_ADDRESS: Final = 200
_NEWS: Final = select.EPOLLIN | select.EPOLLRDHUP | select.EPOLLET
_PEEK: Final = socket.MSG_PEEK | socket.MSG_DONTWAIT
_ENDED: Final = select.EPOLLRDHUP | select.EPOLLHUP | select.EPOLLERR
# At the end, how long whoever has just come may take to ask.
_LAST_S: Final = 1.0
# So many that have connected are let in before one of those that ask gets its turn.
_AT_ONCE: Final = 8
_FLOOD: Final = 32  # when so many wait for their turns, what has connected is let in faster
_AT_ONCE_IN_FLOOD: Final = 128
# So many of one address may begin at the same time: more would only take turns with the interpreter
# that they hold up for others. Who takes longer than this waits for the peer.
_BEGIN: Final = 16
_BEGIN_S: Final = 0.25
_LOOK_AGAIN_S: Final = 0.002


class Verdict(Enum):
    """What is to become of a connection, by what it has sent so far."""

    WAITS = "says too little yet"
    ASKS = "is worth a thread"
    LEFT = "was closed before it said anything"


@dataclass(slots=True, eq=False)
class Arrival:
    """A connection that was accepted.

    Args:
        connection: in blocking mode.
        address: of whoever has connected.
        is_tls: whether TLS is spoken on it.
        since: monotonic time in seconds.
        source: the address that it is counted for: of two, the one that a proxy names.
        begun_at: monotonic time at which its thread took it over.
        is_under_way: gives whether that is at work still to begin or reject an association.
    """

    connection: socket.socket
    address: Address
    is_tls: bool
    since: float
    source: str
    begun_at: float = 0.0
    is_under_way: Callable[[], bool] = lambda: True


Refuse = Callable[[str, str], object]


class Arrivals:
    """Where connections wait until they ask.

    Args:
        timeout_s: gives the longest wait in seconds, None for ever.
        speaks_tls: gives whether TLS is due on the connection that was accepted last.
        refuse: called with the reason (of `metrics.REFUSALS`) and the address of each connection
            that is closed unread.
        has_proxy_header: whether each connection begins with a header of the PROXY protocol.
        hands_over_ends: gives whether a connection that was closed before it said anything is to be
            served as well, for those who watch connections.
        most: most connections that wait, and most that have asked and wait for their turns.
        most_of_address: gives the most of either from one address.
    """

    def __init__(
        self,
        *,
        timeout_s: Callable[[], float | None],
        refuse: Refuse,
        speaks_tls: Callable[[], bool] = lambda: False,
        has_proxy_header: bool = False,
        hands_over_ends: Callable[[], bool] = lambda: False,
        most: int = MAX,
        most_of_address: Callable[[], int] = lambda: MAX_OF_ADDRESS,
    ) -> None:
        self._timeout_s = timeout_s
        self._refuse = refuse
        self._speaks_tls = speaks_tls
        self._has_proxy_header = has_proxy_header
        self._hands_over_ends = hands_over_ends
        self._most = most
        self._most_of_address = most_of_address
        self._epoll = select.epoll()
        # By descriptor, the oldest first: all, and those of each source.
        self._waiting: dict[int, Arrival] = {}
        self._of_source: dict[str, dict[int, Arrival]] = {}
        self._ready: FairQueue[Arrival] = FairQueue()
        self._beginning: dict[str, list[Arrival]] = {}  # handed over a moment ago, by source
        self._seen = bytearray(LOOKED_AT)
        self._lock = threading.RLock()  # held by the leader while it is in here

    def __len__(self) -> int:
        return len(self._waiting) + len(self._ready)

    def fileno(self) -> int:
        """A descriptor that can be read when one of those that wait has news."""
        return self._epoll.fileno()

    def next(self, listener: Listener, *, timeout_s: float | None = None) -> Arrival | None:
        """Wait for a connection that is worth a thread; called by the leader only.

        Args:
            listener: gives the new ones; it watches this beside.
            timeout_s: longest wait.
        Returns:
            The connection, which is the caller's now; None when the time is over.
        Raises:
            ListenerClosedError: nobody listens any more; those who wait still do, see `last`.
        """
        until = None if timeout_s is None else time.monotonic() + timeout_s
        with self._lock:
            let_in = 0
            timeout = 0.0 if self._ready else self._time_left(until)
            while True:
                is_new = self._let_in(listener, timeout)
                let_in += is_new
                at_once = _AT_ONCE if len(self._ready) < _FLOOD else _AT_ONCE_IN_FLOOD
                if self._ready and is_new and let_in < at_once:
                    timeout = 0.0
                    continue
                if self._ready and (arrival := self._hand_over()) is not None:
                    return arrival
                if until is not None and time.monotonic() >= until:
                    return None
                timeout, let_in = self._time_left(until), 0
                if self._ready:  # of addresses that have begun too many at the same time
                    timeout = _LOOK_AGAIN_S if timeout is None else min(timeout, _LOOK_AGAIN_S)

    def _hand_over(self) -> Arrival | None:
        """Take the next whose turn it is; None when its address has begun enough just now."""
        try:
            arrival = self._ready.take(self._may_begin)
        except LookupError:
            return None
        arrival.begun_at = time.monotonic()
        self._beginning.setdefault(arrival.source, []).append(arrival)
        if len(self._beginning) > self._most:
            self._beginning = {
                source: own for source in self._beginning if (own := self._busy(source))
            }
        return arrival

    def _may_begin(self, source: str) -> bool:
        own = self._beginning.get(source)
        if own is None or len(own) < _BEGIN:
            return True
        own = self._beginning[source] = self._busy(source)
        return len(own) < _BEGIN

    def _busy(self, source: str) -> list[Arrival]:
        """Those of an address that are at work still."""
        since = time.monotonic() - _BEGIN_S
        own = self._beginning[source]
        return [each for each in own if each.begun_at > since and each.is_under_way()]

    def _let_in(self, listener: Listener, timeout_s: float | None) -> bool:
        """Wait for a connection, or for news; whether there was a connection."""
        try:
            self.enter(*listener.accept(timeout_s), is_tls=self._speaks_tls())
            is_new = True
        except NothingAcceptedError:
            is_new = False
        if self._waiting:
            self._look(0)
            self._expire()
        return is_new

    def enter(self, connection: socket.socket, address: Address, *, is_tls: bool) -> None:
        """Let a connection in; nothing is waited for."""
        arrival = Arrival(connection, address, is_tls, time.monotonic(), address[0])
        if self._settle(arrival, self._look_at(arrival)):
            return
        try:
            self._epoll.register(connection.fileno(), _NEWS)
        except OSError:  # the kernel watches as many as it may
            connection.close()
            self._refuse("displaced", arrival.source)
            return
        self._waiting[connection.fileno()] = arrival
        self._count(arrival)
        UNASSOCIATED.set(len(self._waiting))

    def make_room(self) -> bool:
        """Close some of those that have waited the longest, for their descriptors."""
        few = max(1, len(self._waiting) // 8)
        oldest = list(islice(self._waiting.values(), few))
        for arrival in oldest:
            self._turn_away(arrival, "displaced")
        return bool(oldest)

    def last(self) -> Arrival | None:
        """The next of those that had just come when the end began; None when there is none left.

        Called after `next` has raised ListenerClosedError, by any thread.
        """
        with self._lock:
            while not self._ready and self._waiting:
                newest = max(each.since for each in self._waiting.values())
                self._look(max(0.0, newest + _LAST_S - time.monotonic()))
                before = time.monotonic() - _LAST_S
                for arrival in [each for each in self._waiting.values() if each.since <= before]:
                    self._forget(arrival)
                    self._close(arrival)
            return self._ready.take() if self._ready else None

    def close(self) -> None:
        """Close all that are still here."""
        with self._lock:
            for arrival in (*self._ready, *self._waiting.values()):
                arrival.connection.close()
            self._ready.clear()
            self._waiting.clear()
            self._of_source.clear()
            self._epoll.close()
            UNASSOCIATED.set(0)

    # --- the leader's work ---

    def _time_left(self, until: float | None) -> float | None:
        """How long to wait at most: until the oldest has waited for too long."""
        ends = [] if until is None else [until]
        timeout_s = self._timeout_s()
        if self._waiting and timeout_s is not None:
            ends.append(next(iter(self._waiting.values())).since + timeout_s)
        return max(0.0, min(ends) - time.monotonic()) if ends else None

    def _look(self, timeout_s: float) -> None:
        """See who has sent something, or has left."""
        for descriptor, events in self._epoll.poll(timeout_s, self._most + 1):
            arrival = self._waiting.get(descriptor)
            if arrival is None:  # has just given its place
                continue
            source = arrival.source
            verdict = self._look_at(arrival, has_ended=bool(events & _ENDED))
            if verdict is not Verdict.WAITS:
                self._forget(arrival, source)
                self._settle(arrival, verdict)
            elif arrival.source != source:  # a proxy has said for whom it speaks
                self._uncount(descriptor, source)
                self._count(arrival)

    def _look_at(self, arrival: Arrival, *, has_ended: bool = False) -> Verdict:
        """Look at what has come, and leave it there."""
        try:
            count = arrival.connection.recv_into(self._seen, 0, _PEEK)
        except BlockingIOError:
            return Verdict.WAITS
        except OSError:
            count = 0  # reset
        if not count:
            return Verdict.ASKS if self._hands_over_ends() else Verdict.LEFT
        seen = bytes(memoryview(self._seen)[:count])
        if self._has_proxy_header:
            arrival.source = named_source(seen) or arrival.source
        wanted = bytes_wanted(seen, is_tls=arrival.is_tls, has_proxy_header=self._has_proxy_header)
        return Verdict.ASKS if has_ended or wanted <= count else Verdict.WAITS

    def _settle(self, arrival: Arrival, verdict: Verdict) -> bool:
        """Do what the verdict says of a connection that does not wait, or no more; else False."""
        if verdict is Verdict.ASKS:
            self._ready.put(arrival.source, arrival)
            self._bound_ready(arrival.source)
        elif verdict is Verdict.LEFT:
            arrival.connection.close()
            if not self._has_proxy_header:  # else a balancer that looks whether somebody listens
                self._refuse("left", arrival.source)
        return verdict is not Verdict.WAITS

    def _bound_ready(self, source: str) -> None:
        """Keep the number of those that wait for their turns."""
        if self._ready.count_of(source) <= self._most_of_address():
            if len(self._ready) <= self._most:
                return
            source = self._ready.largest()
        self._close(self._ready.take_of(source))
        self._refuse("displaced", source)

    def _expire(self) -> None:
        timeout_s = self._timeout_s()
        if timeout_s is None:
            return
        before = time.monotonic() - timeout_s
        while self._waiting:
            oldest = next(iter(self._waiting.values()))
            if oldest.since > before:
                return
            self._turn_away(oldest, "silent")

    def _turn_away(self, arrival: Arrival, reason: str) -> None:
        self._forget(arrival)
        self._close(arrival)
        self._refuse(reason, arrival.source)

    def _close(self, arrival: Arrival) -> None:
        """Close a connection; what has come is dropped first, else the peer would be reset."""
        with suppress(OSError):  # nothing has
            arrival.connection.recv_into(self._seen, 0, socket.MSG_DONTWAIT)
        arrival.connection.close()

    def _forget(self, arrival: Arrival, source: str | None = None) -> None:
        """Take out one that waits, counted for `source` until now."""
        descriptor = arrival.connection.fileno()
        # By hand: a process that was forked may hold a copy, which would keep it in the set.
        self._epoll.unregister(descriptor)
        del self._waiting[descriptor]
        self._uncount(descriptor, arrival.source if source is None else source)
        UNASSOCIATED.set(len(self._waiting))

    def _count(self, arrival: Arrival) -> None:
        """Count one more that waits; when there are too many, the oldest gives its place."""
        own = self._of_source.setdefault(arrival.source, {})
        own[arrival.connection.fileno()] = arrival
        if len(own) > self._most_of_address():
            self._turn_away(next(iter(own.values())), "displaced")
        elif len(self._waiting) > self._most:
            self._turn_away(next(iter(self._waiting.values())), "displaced")

    def _uncount(self, descriptor: int, source: str) -> None:
        own = self._of_source[source]
        del own[descriptor]
        if not own:
            del self._of_source[source]
