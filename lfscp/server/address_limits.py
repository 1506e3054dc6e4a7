"""How many associations one address may have, and how many connections it may open in a minute.

Associations are counted over all worker processes, the connections of a minute by each.

Asked by the thread that serves, after it has promoted another: no limit ever holds up the leader.
If an address exceeds a limit, lfscp answers with an A-ASSOCIATE-RJ. If it exceeds the limit by far,
lfscp closes the connection without reading from it. A peer that the administrator has listed has
associations of its own, so that strangers behind the same address, such as that of a gateway, take
nothing from it.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import Final, Self

from lfscp.server.association_board import AssociationBoard
from lfscp.upperlayer.wire.rejections import LOCAL_LIMIT_EXCEEDED, Rejection

LOGGER = logging.getLogger(__name__)

MAX_OF_ADDRESS: Final = 100  # associations, unless somebody says otherwise
TOO_MANY_FROM_ADDRESS: Final = Rejection(
    2, 3, 2, "local limit of associations from one address exceeded"
)
TOO_MANY_OF_PEER: Final = Rejection(2, 3, 2, "local limit of associations of one peer exceeded")
TOO_MANY_PER_MINUTE: Final = Rejection(
    2, 3, 1, "temporary congestion: too many connections from one address in a minute"
)
# Beyond so many times a limit a connection is closed unread: to answer holds a thread.
_FAR_OVER: Final = 2
_ANSWERED: Final = 8  # at once, however low the limit of associations is
_MINUTE_S: Final = 60.0
_FORGET_ABOVE: Final = 4096  # addresses whose connections are counted
_SAY_AGAIN_S: Final = 60.0


class AddressLimitError(Exception):
    """The connection is to be closed without a word."""


class Place:
    """An association as it is counted, by the thread that serves it; `with` leaves it at the end.

    Attributes:
        rejection: what to reject it with, or None.
    """

    def __init__(self, limits: AddressLimits, address: str) -> None:
        self._limits = limits
        self._number = limits.board.enter(address)
        self.rejection: Rejection | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.leave()

    def move_to(self, name: str) -> Rejection | None:
        """Count it under a name instead of its address; what to reject it with then."""
        if self.rejection is TOO_MANY_FROM_ADDRESS:
            self.leave()
            self._number = self._limits.board.enter(name)
            is_over = self._limits.of(name) > self._limits.max_associations
            self.rejection = TOO_MANY_OF_PEER if is_over else self._limits.excess_of_all()
        return self.rejection

    def leave(self) -> None:
        """Count it no more."""
        self._limits.board.leave(self._number)


class AddressLimits:
    """Counts by address. Any thread may call any method.

    Args:
        clock: monotonic, in seconds.
        board: shared with other processes that serve the same node.

    Attributes:
        max_associations: most of one address at once; 0 is no limit.
        max_per_minute: most connections that one address may open in a minute; 0 is no limit.
        max_total: most associations of all addresses; 0 is no limit.
        board: where associations are counted.
    """

    def __init__(
        self,
        max_associations: int = 0,
        max_per_minute: int = 0,
        clock: Callable[[], float] = time.monotonic,
        board: AssociationBoard | None = None,
    ) -> None:
        self.max_associations = max_associations
        self.max_per_minute = max_per_minute
        self._clock = clock
        self._lock = threading.Lock()
        self.max_total = 0
        self.board = board or AssociationBoard()
        # By address: what is left of the minute's connections (below 0: what was too much), when.
        self._left: dict[str, tuple[float, float]] = {}
        self._said_at = -_SAY_AGAIN_S

    @property
    def is_on(self) -> bool:
        """Whether there is any limit; without one nothing is counted."""
        return bool(self.max_associations or self.max_per_minute or self.max_total)

    def counting(self, address: str) -> Place:
        """Count a connection until its place is left, which says what to reject it with.

        Raises:
            AddressLimitError: it is far over a limit, and not counted.
        """
        place = Place(self, address)
        try:
            place.rejection = self._excess(address)
        except BaseException:
            place.leave()
            raise
        return place

    def of(self, address: str) -> int:
        """The connections of an address now."""
        return self.board.of(address)

    def _excess(self, address: str) -> Rejection | None:
        most = self.max_associations
        count = self.of(address) if most else 0
        left = self._left_of_the_minute(address)
        far = max(_FAR_OVER * most, most + _ANSWERED)
        if (most and count > far) or left <= -(_FAR_OVER - 1) * self.max_per_minute:
            self._say(address, "closed without reading from them")
            raise AddressLimitError
        if left < 0:
            return TOO_MANY_PER_MINUTE
        if most and count > most:
            self._say(address, "rejected")
            return TOO_MANY_FROM_ADDRESS
        return self.excess_of_all()

    def excess_of_all(self) -> Rejection | None:
        """What to reject one with when all addresses together have too many."""
        is_full = self.max_total and self.board.total() > self.max_total
        return LOCAL_LIMIT_EXCEEDED if is_full else None

    def _left_of_the_minute(self, address: str) -> float:
        """Take one connection off what the address has left; it gets them back evenly."""
        most = self.max_per_minute
        if not most:
            return 1.0
        now = self._clock()
        with self._lock:
            left, at = self._left.get(address, (float(most), now))
            left = min(float(most), left + (now - at) * most / _MINUTE_S)
            left = max(left - 1, -float(_FAR_OVER - 1) * most)
            self._left[address] = (left, now)
            if len(self._left) > _FORGET_ABOVE:
                since = now - _FAR_OVER * _MINUTE_S  # after that each has all of them again
                self._left = {each: kept for each, kept in self._left.items() if kept[1] > since}
        return left

    def _say(self, address: str, what: str) -> None:
        now = self._clock()
        if now - self._said_at >= _SAY_AGAIN_S:
            self._said_at = now
            LOGGER.warning(
                "Connections of %s are %s. It has %d; server.max_associations_per_address is "
                "%d, server.max_connections_per_minute %d (0 is no limit). If many modalities "
                "share this address, raise these, or list the modalities in [peers], or let the "
                "load balancer name the client's address (server.proxy_protocol)",
                address,
                what,
                self.of(address),
                self.max_associations,
                self.max_per_minute,
            )
