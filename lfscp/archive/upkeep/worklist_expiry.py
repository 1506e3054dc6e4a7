"""Removes worklist items whose last step is over since some days; items of files stay.

Rules: one node of a shared index does it. Days are those of the node's time zone, as dates of steps
have none, and go by the clock that can be trusted: a wrong one removes nothing.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final

from lfscp.archive.upkeep.task_lease import Turn
from lfscp.archive.workflow.worklist.worklist import Worklist
from lfscp.observe.logging import get_logger

if TYPE_CHECKING:
    from lfscp.archive.archive import Archive

LOG: Final = get_logger("lfscp.worklist")
TASK: Final = "worklist-expiry"
_EVERY_S: Final = 3600.0
_FOR_EVER_DAYS: Final = 365_000  # about as far back as a date can be


class WorklistExpiry:
    """The task of one node.

    Args:
        keep_days: how long an item stays after the day of its last step.
    """

    def __init__(self, archive: Archive, keep_days: float) -> None:
        self._archive = archive
        self._worklist = Worklist(archive.index)
        self._keep_days = keep_days
        self._turn = Turn(archive, TASK)

    def run(self) -> float:
        """Remove what is due; gives how many seconds to wait until the next time.

        Raises:
            SQLAlchemyError, OSError, ArchiveError: the index fails.
        """
        if self._turn.take() is None:
            return _EVERY_S
        day = datetime.fromtimestamp(self._archive.trusted_ms() / 1000)  # noqa: DTZ006 - local
        before = day - timedelta(days=min(self._keep_days, _FOR_EVER_DAYS))
        removed = self._worklist.expire(before.strftime("%Y%m%d"))
        if removed:
            LOG.info("worklist items expired", items=removed, keep_days=self._keep_days)
        self._turn.give_up()
        return _EVERY_S
