"""Limits the number of HTTP connections, so that DICOM always has enough.

Rules: HTTP has a fixed share of the files that the process may open, and each address a part of it.
A new connection beyond the limit takes the place of the one that has waited longest without a
request, for a second at least; if its address has too many, the place of one of that address. If
there is none, it is refused. Not thread-safe: for the thread of the server's event loop.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from typing import Final, Protocol

from lfscp.observe import metrics
from lfscp.observe.open_files import most_open_files
from lfscp.web.security.forwarded import ReverseProxies, is_in
from lfscp.web.security.refusals import note_refusal
from lfscp.web.security.shares import Share

PART_OF_OPEN_FILES: Final = 4  # HTTP has one of so many parts, DICOM the others
GRACE_S: Final = 1.0  # a request may have come that is not read yet
MAX_PARTING: Final = 200  # refused ones in a second, beside those that have places
_NO_LIMIT: Final = 1 << 30


def limits_of(most: int, most_of_address: int) -> tuple[int, int]:
    """The places for all, and for one address.

    Args:
        most: of all; 0 is a quarter of the files that this process may open.
        most_of_address: of one address; 0 is no limit of its own.
    Returns:
        The limits that hold; unless `most` is given, no address has more than half of all.
    """
    places = most or most_open_files() // PART_OF_OPEN_FILES
    if not most_of_address:
        return places, _NO_LIMIT
    return places, most_of_address if most else min(most_of_address, max(places // 2, 1))


class Connection(Protocol):
    """A connection that holds a place."""

    address: str
    waits_since: float  # monotonic

    def leave(self) -> None:
        """Close it at once."""


class ConnectionLimits:
    """The places for connections.

    Args:
        most: of all, see `limits_of`.
        most_of_address: of one address.
        timeout_s: longest wait for a request, and how long a slow one is looked at.
        min_rate: the slowest pace of bodies and answers, in bytes a second; 0 is no limit.
        proxies: their addresses stand for many visitors.
    """

    def __init__(
        self,
        most: int,
        most_of_address: int,
        timeout_s: float,
        min_rate: int,
        proxies: ReverseProxies | None = None,
    ) -> None:
        self.most, of_address = limits_of(most, most_of_address)
        self.timeout_s = timeout_s
        self.min_rate = min_rate
        self._share = Share(self.most, of_address)
        self._proxies = proxies or ReverseProxies(())
        self._waiting: OrderedDict[Connection, None] = OrderedDict()
        self._waiting_by_address: dict[str, OrderedDict[Connection, None]] = {}
        self._parting_since, self._parting = 0.0, 0
        self._places: dict[Connection, str] = {}  # the visitor that each is counted for

    @property
    def taken(self) -> int:
        """Places that are taken."""
        return self._share.taken

    @property
    def is_time_to_part(self) -> bool:
        """Whether a refused client may stay until it has read the answer; not if there are many."""
        now = time.monotonic()
        if now - self._parting_since >= 1.0:
            self._parting_since, self._parting = now, 0
        self._parting += 1
        return self._parting <= min(MAX_PARTING, self.most // 2)

    def enter(self, connection: Connection) -> bool:
        """Take a place; False if there is none, and none can be made free."""
        visitor = self._visitor(connection)
        shortage = self._share.take(visitor)
        if shortage:
            waiting = self._waiting_by_address.get(visitor) if shortage == "each" else self._waiting
            reason = "connections_of_address" if shortage == "each" else "connections"
            note_refusal(reason, connection.address)
            longest = next(iter(waiting), None) if waiting else None
            if longest is None or time.monotonic() - longest.waits_since < GRACE_S:
                return False
            self.leave(longest)
            longest.leave()
            if self._share.take(visitor):  # there is room again, but not for this address
                return False
        self._places[connection] = visitor
        metrics.HTTP_CONNECTIONS.set(self._share.taken)
        self.wait(connection)
        return True

    def leave(self, connection: Connection) -> None:
        """Give a place back, if it is still held."""
        visitor = self._places.pop(connection, None)
        if visitor is None:
            return
        self._forget(connection, visitor)
        self._share.give(visitor)
        metrics.HTTP_CONNECTIONS.set(self._share.taken)

    def wait(self, connection: Connection) -> None:
        """Note that a connection waits for a request."""
        visitor = self._places.get(connection)
        if visitor is None:
            return
        self._waiting[connection] = None
        self._waiting.move_to_end(connection)
        own = self._waiting_by_address.setdefault(visitor, OrderedDict())
        own[connection] = None
        own.move_to_end(connection)

    def serve(self, connection: Connection) -> None:
        """Note that a connection has a request."""
        visitor = self._places.get(connection)
        if visitor is not None:
            self._forget(connection, visitor)

    def _forget(self, connection: Connection, visitor: str) -> None:
        self._waiting.pop(connection, None)
        own = self._waiting_by_address.get(visitor)
        if own is not None:
            own.pop(connection, None)
            if not own:
                del self._waiting_by_address[visitor]

    def _visitor(self, connection: Connection) -> str:
        """The visitor a connection is counted for; each of a trusted proxy's counts for itself."""
        if is_in(connection.address, self._proxies.networks):
            return f"{connection.address} {id(connection)}"
        return connection.address
