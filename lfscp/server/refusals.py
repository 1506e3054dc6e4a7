"""Counts and logs connections that never became associations."""

from __future__ import annotations

import logging
from typing import Final

from lfscp.observe.log_budget import LogBudget
from lfscp.observe.metrics import REFUSED

LOGGER = logging.getLogger(__name__)

_WORDS: Final = {
    "silent": "no A-ASSOCIATE-RQ within the ACSE timeout",
    "displaced": "it had waited the longest, and too many waited",
    "left": "the peer closed it before it asked for an association",
}


class Refusals:
    """Of one server. Any thread may call any method.

    Attributes:
        budget: of lines about connections that end, whoever writes them.
    """

    def __init__(self) -> None:
        self.budget = LogBudget()

    def note(self, reason: str, address: str) -> None:
        """Count a connection that was closed without an association, and say it.

        Args:
            reason: one of "silent", "displaced" and "left".
        """
        REFUSED.of(reason).add()
        if self.budget.allows(address):
            LOGGER.warning("Closed a connection of %s: %s", address, _WORDS[reason])

    def say_left_out(self, *, now: bool = False) -> None:
        """Say what was not logged one by one, when it is time for that.

        Args:
            now: it is time, since the server ends.
        """
        left_out = self.budget.left_out(now=now) if self.budget.is_over else None
        if left_out is not None:
            LOGGER.warning("More connections ended, not logged one by one: %s", left_out)
