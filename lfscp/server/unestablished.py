"""Threads that serve a peer before there is an association: a bounded number.

Such a thread shakes hands for TLS, reads a request that comes slowly, or waits for the peer to
close after a rejection or an abort. An honest peer is through in a moment. When there are too many,
the one that has waited the longest for its peer is cut off: of the address that has most of them.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from lfscp.observe.metrics import REFUSED
from lfscp.upperlayer.association import InlineAssociation

MOST: Final = 64


class Unestablished:
    """The associations that are served and not established. Any thread may call any method.

    Args:
        most: how many wait for their peers at once.
    """

    def __init__(self, most: int = MOST) -> None:
        self._most = most
        self._lock = threading.Lock()
        self._members: dict[InlineAssociation, None] = {}  # the oldest first

    @contextmanager
    def member(self, association: InlineAssociation) -> Iterator[None]:
        """Count an association while it is served; another may have to go for it."""
        with self._lock:
            self._members[association] = None
            victim = self._victim() if len(self._members) > self._most else None
        if victim is not None:
            REFUSED.of("displaced").add()
            victim.cut_off("gave its place to a newer connection")
        try:
            yield
        finally:
            with self._lock:
                self._members.pop(association, None)

    def _victim(self) -> InlineAssociation | None:
        """The one to cut off, which is then no member any more; lock held."""
        for each in [each for each in self._members if each.was_established]:
            del self._members[each]
        if len(self._members) <= self._most:
            return None
        waiting = [each for each in self._members if each.waits_to_begin_or_end]
        addresses = Counter(each.requestor.address for each in waiting)
        most = max(addresses.values(), default=0)
        for each in waiting:
            if addresses[each.requestor.address] == most:
                del self._members[each]
                return each
        return None
