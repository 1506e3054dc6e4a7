"""Limits the threads that serve peers without an established association.

Such a thread shakes hands for TLS, reads a request that comes slowly, or waits for the peer to
close after a rejection or an abort. An honest peer is through in a moment. When there are too many,
of one address or of all, one of them is cut off: of the address that has most, the one that has
waited the longest for its peer, and first those that have had their answer.
"""

from __future__ import annotations

import threading
from collections import Counter
from typing import Final

from lfscp.observe.metrics import REFUSED
from lfscp.upperlayer.scp.association import AcceptorAssociation

MAX: Final = 64
MAX_OF_ADDRESS: Final = 32  # more than may begin at the same time


class Unestablished:
    """The associations that are served and not established. Any thread may call any method.

    Args:
        most: how many wait for their peers at once.
        most_of_address: how many of them of one address.
    """

    def __init__(self, most: int = MAX, most_of_address: int = MAX_OF_ADDRESS) -> None:
        self._most = most
        self._most_of_address = most_of_address
        self._lock = threading.Lock()
        self._members: dict[AcceptorAssociation, None] = {}  # the oldest first

    def enter(self, association: AcceptorAssociation) -> None:
        """Count an association that is served; another may have to go for it."""
        with self._lock:
            self._members[association] = None
            is_many = len(self._members) > min(self._most, self._most_of_address)
            victim = self._victim(association.requestor.address) if is_many else None
        if victim is not None:
            REFUSED.of("displaced").add()
            victim.cut_off("made room for a newer connection")

    def leave(self, association: AcceptorAssociation) -> None:
        """Count it no more."""
        with self._lock:
            self._members.pop(association, None)

    def _victim(self, newest: str | None) -> AcceptorAssociation | None:
        """The one to cut off, which is then no member any more; lock held.

        Args:
            newest: the address that the last one comes from.
        """
        for each in [each for each in self._members if each.was_established]:
            del self._members[each]
        addresses: Counter[str | None] = Counter(each.requestor.address for each in self._members)
        chosen: list[str | None]
        if len(self._members) > self._most:
            most = max(addresses.values())
            chosen = [address for address, count in addresses.items() if count == most]
        elif addresses[newest] > self._most_of_address:
            chosen = [newest]
        else:
            return None
        waiting = [
            each
            for each in self._members
            if each.requestor.address in chosen and each.waits_to_begin_or_end
        ]
        victim = min(waiting, key=AcceptorAssociation.is_beginning, default=None)
        if victim is not None:
            del self._members[victim]
        return victim
