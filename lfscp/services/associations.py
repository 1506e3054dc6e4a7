"""Logs, counts and audits the begin and the end of each association.

All of it runs in the thread that serves the association, after the peer has its answer.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from pynetdicom import evt

from lfscp.observe import audit, metrics
from lfscp.observe.stdlib_bridge import redact
from lfscp.services.audit_events import Patients, ReceivedObjects, peer_of
from lfscp.services.called import called_ae_title
from lfscp.services.service_log import LOG, Handlers, association_fields

if TYPE_CHECKING:
    from lfscp.upperlayer.scp.association import AcceptorAssociation
    from lfscp.upperlayer.wire.rejections import Rejection

# What an A-ASSOCIATE-RJ says, by source and reason (PS3.8 table 9-21).
_REJECTIONS: Final = {
    (1, 2): "application_context_not_supported",
    (1, 3): "calling_ae_title_not_recognized",
    (1, 7): "called_ae_title_not_recognized",
    (2, 1): "user_identity_not_verified",
    (2, 2): "protocol_version_not_supported",
    (3, 1): "temporary_congestion",
    (3, 2): "local_limit_exceeded",
}
_NO_FAULT: Final = ("local_limit_exceeded", "temporary_congestion")  # the peer did nothing wrong
_TIMED_OUT: Final = ("timeout", "stopped in mid-PDU", "too slow")  # words of `end_reason`


def handlers(patients: Patients) -> Handlers:
    """The handler of associations that have been accepted."""

    def begin(event: evt.Event) -> None:
        metrics.ACCEPTED.add()
        if audit.is_on():
            peer = peer_of(event.assoc)
            audit.association_began(peer, called_ae_title(event.assoc))
            event.assoc.trail = ReceivedObjects(peer, patients)  # type: ignore[attr-defined]

    return [(evt.EVT_ESTABLISHED, begin)]


def record_end(association: AcceptorAssociation) -> None:
    """Count an association that ended, and write its line."""
    duration_s = time.monotonic() - association.started_at
    count_end(association, duration_s)
    if audit.is_on():
        audit_end(association)
    fields = association_fields(association)
    duration_ms = round(duration_s * 1000)
    if association.end_reason is None:
        LOG.debug("association released", **fields, duration_ms=duration_ms)
    elif association.is_worth_a_line:
        reason = redact(association.end_reason)
        LOG.warning("association ended", **fields, reason=reason, duration_ms=duration_ms)


def count_end(association: AcceptorAssociation, duration_s: float) -> None:
    """Count how an association ended."""
    if association.is_rejected:
        metrics.REJECTED.of(rejection_reason(association.rejection)).add()
        return
    metrics.ENDED.of(outcome_of(association)).add()
    if association.was_established:
        metrics.ASSOCIATION_SECONDS.observe(duration_s)


def audit_end(association: AcceptorAssociation) -> None:
    """Write the last records of an association to the audit trail."""
    if association.trail is not None:
        association.trail.write()
    called = called_ae_title(association)
    reason = redact(association.end_reason) if association.end_reason else ""
    if association.was_established:
        audit.association_ended(peer_of(association), called, reason)
    elif association.is_rejected and rejection_reason(association.rejection) not in _NO_FAULT:
        audit.association_rejected(peer_of(association), called, reason)
    elif association.is_rejected:
        audit.association_began(peer_of(association), called, reason)
    elif association.requestor.primitive is None and "TLS" in reason:
        audit.association_rejected(peer_of(association), called, reason)


def outcome_of(association: AcceptorAssociation) -> str:
    """How an accepted association ended: one of `metrics.ENDS`."""
    reason = association.end_reason or ""
    if reason and any(words in reason for words in _TIMED_OUT):
        return "timed_out"
    if association.is_released and not reason:
        return "released"
    return "aborted" if association.is_aborted else "failed"


def rejection_reason(rejection: Rejection | None) -> str:
    """What an A-ASSOCIATE-RJ said: one of `metrics.REJECTIONS`."""
    if rejection is None:
        return "no_reason_given"
    return _REJECTIONS.get((rejection.source, rejection.diagnostic), "no_reason_given")
