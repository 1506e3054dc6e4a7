"""Forgets jobs that ended long ago, and the commitment requests of that time."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

from lfscp.archive.workflow.commitment.requests import CommitmentRequests
from lfscp.jobs.model import timestamp

if TYPE_CHECKING:
    from lfscp.archive.archive import Archive
    from lfscp.jobs.store import JobStore

_INTERVAL_S: Final = 600.0


class Expiry:
    """Forgets what is older than the settings say.

    Args:
        archive: its clock tells how old a job is.
        store: where ended jobs are.
        keep_days: how long they are kept.
    """

    def __init__(self, archive: Archive, store: JobStore, keep_days: float) -> None:
        self.keep_days = keep_days
        self._archive = archive
        self._store = store
        self._looked_at = float("-inf")

    def forget_if_due(self) -> None:
        """Forget, unless that was done in the last ten minutes."""
        if time.monotonic() - self._looked_at > _INTERVAL_S:
            self.forget()

    def forget(self) -> None:
        """Forget what is too old by now."""
        self._looked_at = time.monotonic()
        today = datetime.fromtimestamp(self._archive.trusted_ms() / 1000, UTC)
        oldest = today - timedelta(days=self.keep_days)
        self._store.forget_ended_before(timestamp(oldest))
        CommitmentRequests(self._archive.index).forget_before(round(oldest.timestamp() * 1000))
