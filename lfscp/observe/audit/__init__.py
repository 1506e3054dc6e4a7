"""The audit trail: who did what with whose data, one message per event, in a log of its own.

Only the audit trail names patients. Nothing happens here before `start`, and nothing here raises:
`log` keeps records that cannot be written, `repeats` counts those that repeat.

Source: PS3.15 section A.5.3, one function for each event.
"""

from lfscp.observe.audit.current import (
    Format,
    act_as,
    actor,
    actor_address,
    is_failing,
    is_on,
    must_stop,
    reopen,
    start,
    stop,
    tell_repeats,
)
from lfscp.observe.audit.dimse import (
    instances_received,
    instances_refused,
    instances_sent,
    procedure_step_recorded,
    queried,
)
from lfscp.observe.audit.people import (
    accessed,
    changed,
    deleted,
    log_used,
    user_authenticated,
    user_left,
    worklist_item_recorded,
)
from lfscp.observe.audit.subjects import AuditedPeer, Transfer
from lfscp.observe.audit.systems import (
    application_started,
    application_stopped,
    association_began,
    association_ended,
    association_rejected,
    not_authorised,
    peer_changed,
)

__all__ = [
    "AuditedPeer",
    "Format",
    "Transfer",
    "accessed",
    "act_as",
    "actor",
    "actor_address",
    "application_started",
    "application_stopped",
    "association_began",
    "association_ended",
    "association_rejected",
    "changed",
    "deleted",
    "instances_received",
    "instances_refused",
    "instances_sent",
    "is_failing",
    "is_on",
    "log_used",
    "must_stop",
    "not_authorised",
    "peer_changed",
    "procedure_step_recorded",
    "queried",
    "reopen",
    "start",
    "stop",
    "tell_repeats",
    "user_authenticated",
    "user_left",
    "worklist_item_recorded",
]
