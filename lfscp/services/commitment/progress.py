"""Takes a commitment from step to step: verified, reported, or put off until later.

It is the same for the process that was asked and for the one that goes on with it. Each step has a
line in the log, and so has each new reason why it goes on later.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, Literal

from lfscp.archive.index.clock_readings import wall_ms
from lfscp.archive.workflow.commitment.commitment import Commitment
from lfscp.archive.workflow.commitment.commitments import Commitments
from lfscp.archive.workflow.commitment.failure_reasons import (
    CLASS_INSTANCE_CONFLICT,
    NO_SUCH_INSTANCE,
    PROCESSING_FAILURE,
)
from lfscp.archive.workflow.commitment.verification import Damage, Verification
from lfscp.errors import OperationError
from lfscp.observe import metrics
from lfscp.observe.logging import get_logger
from lfscp.services.commitment.report import NotReportedError, send_report

if TYPE_CHECKING:
    from pynetdicom.presentation import PresentationContext

    from lfscp.archive.archive import Archive
    from lfscp.config.current import CurrentSettings

LOG: Final = get_logger("lfscp.services")
KEEP_S: Final = 5.0  # between two renewals of what is held
NO_ADDRESS: Final = "no address is known for this AE title: enter it as a peer"

_OUTCOMES: Final = {
    NO_SUCH_INSTANCE: "missing",
    CLASS_INSTANCE_CONFLICT: "conflict",
    PROCESSING_FAILURE: "damaged",
}
_FIRST_DELAY_S: Final = 10.0
_LONGEST_DELAY_S: Final = 1800.0
_LOOK_FOR_ADDRESS_S: Final = 30.0
_HOUR_MS: Final = 3_600_000


class LostCommitmentError(Exception):
    """Another process works on it now."""


def fields_of(commitment: Commitment) -> dict[str, Any]:
    """What the lines about a commitment have in common."""
    return {
        "calling_ae_title": commitment.calling_ae_title,
        "transaction_uid": commitment.transaction_uid,
        "instances": commitment.instances,
    }


class Progress:
    """The steps of commitments that this process holds. Any thread may call any method."""

    def __init__(
        self, archive: Archive, current: CurrentSettings, commitments: Commitments
    ) -> None:
        self._archive = archive
        self._current = current
        self.commitments = commitments

    def verify(self, commitment: Commitment, goes_on: Callable[[], object]) -> None:
        """Look at its instances, and note what was found.

        Args:
            goes_on: called now and then, by several threads; may raise to end it.
        Raises:
            LostCommitmentError: another process works on it now.
            ArchiveError: it cannot be done now.
        """
        started = time.monotonic()
        how = self._current.settings.commitment.verify
        fields = fields_of(commitment)

        def tell(damage: Damage) -> None:
            uid, reason = damage
            LOG.error("object damaged", **fields, sop_instance_uid=uid, reason=reason)

        references = self.commitments.references(commitment.id)
        failures = Verification(self._archive, how, tell, goes_on).failures(references)
        if not self.commitments.verified(commitment.id, failures):
            raise LostCommitmentError
        counts = Counter(_OUTCOMES[each.reason] for each in failures)
        counts["committed"] = len(references) - len(failures)
        for outcome, count in counts.items():
            metrics.COMMITTED_INSTANCES.of(outcome).add(count)
        duration_ms = round((time.monotonic() - started) * 1000)
        LOG.info(
            "storage commitment verified", **fields, verify=how, **counts, duration_ms=duration_ms
        )

    def report(
        self,
        commitment: Commitment,
        association: Any,
        context: PresentationContext,
        which: Literal["same", "new"],
    ) -> None:
        """Send its report on an association; see `send_report`."""
        try:
            send_report(self.commitments, commitment, association, context)
        except NotReportedError:
            metrics.COMMITMENT_REPORTS.of(which, "failed").add()
            raise
        metrics.COMMITMENT_REPORTS.of(which, "taken").add()
        LOG.info(
            "storage commitment reported",
            **fields_of(commitment),
            failed=commitment.failed,
            association=which,
        )

    def put_off(self, commitment: Commitment, reason: str, *, is_away: bool = False) -> None:
        """Try it again later, or no more when it has been tried for long enough.

        Args:
            is_away: the peer cannot be reached, with whatever report.
        """
        of_peer = commitment.calling_ae_title if is_away else ""
        again_in_s = self._delay_s(commitment, reason)
        fields = {**fields_of(commitment), "reason": reason}
        try:
            self.commitments.put_off(commitment.id, reason, again_in_s, of_peer=of_peer)
        except OperationError as error:  # who holds it loses it in a few seconds
            fields["reason"] = f"{reason}; {error}"
        if again_in_s is None:
            LOG.error("storage commitment given up", **fields, attempts=commitment.attempts + 1)
        elif reason != commitment.reason:
            LOG.warning("storage commitment put off", **fields, again_in_s=again_in_s)

    def _delay_s(self, commitment: Commitment, reason: str) -> float | None:
        hours = self._current.settings.commitment.retry_hours
        since = commitment.report_since or commitment.created_at
        if wall_ms() - since >= hours * _HOUR_MS:
            return None
        if reason == NO_ADDRESS:
            return _LOOK_FOR_ADDRESS_S
        return min(_FIRST_DELAY_S * 2.0 ** min(commitment.attempts, 20), _LONGEST_DELAY_S)
