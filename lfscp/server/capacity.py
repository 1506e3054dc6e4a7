"""How many associations and connections one process takes, by the files that it may open.

The rest is the page's, the index's and that of stored objects. Most of the share is everybody's;
some is kept for peers that the administrator has listed. `Capacity.hold` says what an association
is rejected with; the rejection itself comes with the negotiation, after that for a wrong AE title.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Final

from lfscp.observe.metrics import REFUSED
from lfscp.observe.open_files import most_open_files
from lfscp.server import arrivals
from lfscp.server.address_limits import Place
from lfscp.upperlayer.scp.association import AcceptorAssociation
from lfscp.upperlayer.wire.rejections import LOCAL_LIMIT_EXCEEDED, Rejection

LOGGER = logging.getLogger(__name__)

NO_THREAD: Final = Rejection(2, 3, 1, "temporary congestion: no thread can be started")
# How long whoever is over a limit may take to ask for what is rejected, and to close then.
_TIME_TO_REJECT_S: Final = 5.0
# The same when the leader itself has to reject it, and nobody leads meanwhile.
_TIME_WITHOUT_THREAD_S: Final = 0.05
_SHARE_OF_ASSOCIATIONS: Final = 4  # an association has a socket, and often a file
_SHARE_OF_ARRIVALS: Final = 16  # of those that are silent, and again of those that wait for turns
_MAX_ASSOCIATIONS: Final = 4000  # so many can be counted by address
_FOR_KNOWN: Final = 10  # of so many associations one is kept for peers that are known
_SAY_AGAIN_S: Final = 60.0


class Capacity:
    """Of one server, in this process. Any thread may call any method.

    Args:
        files: how many files the process may have open.

    Attributes:
        most_associations: that are served at once.
        most_arrivals: connections that have not asked, or wait for their turns.
    """

    def __init__(self, files: int) -> None:
        self.most_associations = min(files // _SHARE_OF_ASSOCIATIONS, _MAX_ASSOCIATIONS)
        self.most_arrivals = min(files // _SHARE_OF_ARRIVALS, arrivals.MAX)
        self._said_full_at = -_SAY_AGAIN_S

    def most_arrivals_of_address(self, max_associations: int) -> int:
        """The same of one address, which may have so many associations; 0 is no limit of them."""
        few = min(self.most_arrivals // 2, arrivals.MAX_OF_ADDRESS)
        return max(few, min(self.most_arrivals, 2 * max_associations or self.most_arrivals))

    def hold(
        self,
        association: AcceptorAssociation,
        count: Callable[[], int],
        place: Place | None,
        refusal: Rejection | None,
    ) -> None:
        """Tell an association what to reject it with, if anything; and how long that may take.

        Args:
            count: gives how many are served, this one included.
            place: what the limits of addresses say; None without them.
            refusal: what to reject it with whoever it is.
        """
        rejection = refusal or (place.rejection if place is not None else None)
        most = self.most_associations
        if rejection is None and count() > most - most // _FOR_KNOWN:
            rejection = LOCAL_LIMIT_EXCEEDED
            self._say_full(most)
        if rejection is None:
            return
        association.over_limit = rejection
        patience_s = _TIME_TO_REJECT_S
        if refusal is not None:
            REFUSED.of("no_thread").add()
            patience_s = _TIME_WITHOUT_THREAD_S
        else:
            association.over_limit_as_known = lambda name: self._as_known(
                association, count, place, name
            )
        association.acse_timeout = min(association.acse_timeout or patience_s, patience_s)

    def _as_known(
        self,
        association: AcceptorAssociation,
        count: Callable[[], int],
        place: Place | None,
        name: str,
    ) -> Rejection | None:
        """What to reject it with when it is a peer that is known: it has a count of its own."""
        if count() > self.most_associations:
            return LOCAL_LIMIT_EXCEEDED
        rejection = None
        if place is not None and place.rejection is not None:
            rejection = place.move_to(f"{name}@{association.requestor.address}")
        if rejection is None:
            association.acse_timeout = association.ae.acse_timeout
        return rejection

    def _say_full(self, most: int) -> None:
        REFUSED.of("too_many_associations").add()
        now = time.monotonic()
        if now - self._said_full_at >= _SAY_AGAIN_S:
            self._said_full_at = now
            LOGGER.error(
                "Rejecting associations: a process that may open %d files serves %d at most; "
                "raise LimitNOFILE of the unit, or ulimit -n",
                most_open_files(),
                most,
            )
