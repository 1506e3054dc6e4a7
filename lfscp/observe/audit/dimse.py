"""Events of DICOM messages: instances that come and go, queries, and procedure steps.

Source: PS3.15 A.5.3.3, A.5.3.7, A.5.3.10 and A.5.3.13.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from lfscp.observe.audit import current
from lfscp.observe.audit import message as m
from lfscp.observe.audit.repeats import source_of
from lfscp.observe.audit.subjects import AuditedPeer, Transfer, as_requestor
from lfscp.observe.audit.trail import AuditTrail


def instances_received(
    peer: AuditedPeer, study_uid: str, transfer: Transfer, patient: m.Patient | None
) -> None:
    """A peer, or the acting user, stored instances of one study here."""
    trail = current.trail()
    if trail is None:
        return
    sender = current.participant() or as_requestor(peer)
    participants = (replace(sender, role=m.SOURCE), trail.here(m.DESTINATION))
    _transferred(trail, participants, m.CREATE, study_uid, transfer, patient)


def instances_refused(peer: AuditedPeer, failures: Mapping[str, int]) -> None:
    """Instances that a peer, or the acting user, sent were not stored: how many, by status."""
    trail = current.trail()
    if trail is None:
        return
    sender = current.participant() or as_requestor(peer)
    participants = (replace(sender, role=m.SOURCE), trail.here(m.DESTINATION))
    reason = ", ".join(f"{number} answered {status}" for status, number in failures.items())
    event = m.INSTANCES_TRANSFERRED
    message = trail.message(event, m.CREATE, participants, reason=m.cut(reason))
    # Ever other counts make none of them alike.
    trail.write(message, ("refused", source_of(peer.address)))


def instances_sent(
    requestor: AuditedPeer,
    destination: AuditedPeer,
    study_uid: str,
    transfer: Transfer,
    patient: m.Patient | None,
) -> None:
    """Instances of one study went to a peer, asked for by that peer or another."""
    trail = current.trail()
    if trail is None:
        return
    here = trail.here(m.SOURCE)
    participants: tuple[m.Participant, ...]
    if destination == requestor:
        participants = (here, replace(as_requestor(requestor), role=m.DESTINATION))
    else:
        receiver = m.Participant(destination.ae_title, destination.address, role=m.DESTINATION)
        participants = (here, receiver, as_requestor(requestor))
    _transferred(trail, participants, m.READ, study_uid, transfer, patient)


def _transferred(
    trail: AuditTrail,
    participants: tuple[m.Participant, ...],
    action: str,
    study_uid: str,
    transfer: Transfer,
    patient: m.Patient | None,
) -> None:
    failed = transfer.failed
    details = {"bytes": transfer.size, "failed": failed} if failed else {"bytes": transfer.size}
    study = m.Study(study_uid, transfer.instances, details)
    objects = (study,) if patient is None else (study, patient)
    reason = f"{failed} instances failed" if failed else ""
    event = m.INSTANCES_TRANSFERRED
    trail.write(trail.message(event, action, participants, objects, reason=reason))


def queried(
    peer: AuditedPeer,
    sop_class_uid: str,
    identifier: bytes,
    details: Mapping[str, object],
    reason: str = "",
) -> None:
    """A peer asked with C-FIND; `reason` when it got no full answer.

    Of an address that asks very often it is recorded in short, and then counted.
    """
    trail = current.trail()
    if trail is None:
        return
    source = source_of(peer.address)
    is_short = not trail.queries.may_write(source, lambda *_: None)
    query = m.QueryObject.of(sop_class_uid, identifier, details, is_short=is_short)
    participants = (replace(as_requestor(peer), role=m.SOURCE), trail.here(m.DESTINATION))
    message = trail.message(m.QUERY, m.EXECUTE, participants, (query,), reason=m.cut(reason))
    trail.write(message, source if is_short else None, trail.short_queries)


def procedure_step_recorded(
    peer: AuditedPeer,
    action: str,
    study_uid: str,
    procedure_step_uid: str,
    status: str,
    patient: m.Patient | None,
) -> None:
    """A peer made, changed or read a performed procedure step of a study.

    Args:
        action: of `message`: CREATE, UPDATE or READ.
        status: of the step.
    """
    trail = current.trail()
    if trail is None:
        return
    participants = (as_requestor(peer), trail.here())
    study = m.Study(study_uid, {}, {"status": status}, procedure_step_uid)
    objects = (study,) if patient is None else (study, patient)
    trail.write(trail.message(m.PROCEDURE_RECORD, action, participants, objects))
