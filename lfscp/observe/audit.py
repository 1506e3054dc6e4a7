"""The audit trail: who did what with whose data, one message per event, in a log of its own.

Only the audit trail names patients. Nothing happens here before `start`, and nothing here raises:
`audit_log` keeps records that cannot be written, `audit_repeats` counts those that repeat.

Source: PS3.15 section A.5.3, one function for each event.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from contextvars import ContextVar
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Literal

from lfscp.observe import audit_message as m
from lfscp.observe.audit_log import AuditFile
from lfscp.observe.audit_repeats import Repeats, source_of
from lfscp.observe.audit_trail import NO_TIME, AuditTrail, Prepared, repeat_key

Format = Literal["json", "xml"]


@dataclass(frozen=True, slots=True)
class AuditedPeer:
    """Another application entity."""

    ae_title: str
    address: str


@dataclass(slots=True)
class Transfer:
    """Instances of one study that were transferred.

    Args:
        instances: how many of each SOP class, by UID.
        size: bytes of their datasets.
        failed: how many were not.
    """

    instances: dict[str, int]
    size: int = 0
    failed: int = 0

    def count(self, sop_class_uid: str, size: int) -> None:
        """Note one instance more."""
        self.instances[sop_class_uid] = self.instances.get(sop_class_uid, 0) + 1
        self.size += size

    def add(self, other: Transfer) -> None:
        """Note what another one has."""
        for uid, number in other.instances.items():
            self.instances[uid] = self.instances.get(uid, 0) + number
        self.size += other.size
        self.failed += other.failed


_TITLES: Final = 10  # times same_per_minute: messages on associations of one address in a minute
_SHORT: Final = 10  # times queries_per_minute: those that are recorded in short
_trail: AuditTrail | None = None
# The user of the current thread or task; None is the node itself.
_actor: Final[ContextVar[m.Participant | None]] = ContextVar("lfscp_actor", default=None)


def start(
    path: Path,
    ae_title: str,
    *,
    format: Format = "json",  # noqa: A002 - the setting's name
    sync: bool = False,
    max_bytes: int = 0,
    keep: int = 1,
    keep_s: float = 0.0,
    stops: bool = False,
    same_per_minute: int = 0,
    queries_per_minute: int = 0,
) -> None:
    """Write the trail of this process, and of those that it forks, to a file.

    Args:
        ae_title: of this node.
        format: "json" or "xml", a message a line.
        sync, max_bytes, keep, keep_s, stops: see `AuditFile`.
        same_per_minute: see `Repeats`; 0 writes all in full.
        queries_per_minute: so many queries of one address are written in full, ten times as many
            in short, and the rest is counted; 0 writes all in full.
    """
    global _trail
    host = socket.gethostname()
    file = AuditFile(path, sync=sync, max_bytes=max_bytes, keep=keep, keep_s=keep_s, stops=stops)
    repeats, associations = Repeats(same_per_minute), Repeats(same_per_minute * _TITLES)
    is_xml = format == "xml"
    queries, short = Repeats(queries_per_minute), Repeats(queries_per_minute * _SHORT)
    source = f"{ae_title}@{host}"
    _trail = AuditTrail(file, source, ae_title, host, is_xml, repeats, associations, queries, short)


def stop() -> None:
    """Write nothing any more."""
    global _trail
    if _trail is not None:
        _trail.tell_repeats()
        _trail.file.close()
    _trail = None


def tell_repeats() -> None:
    """Write how many more there were of what repeats; before a process ends that writes no more."""
    if _trail is not None:
        _trail.tell_repeats()


def is_on() -> bool:
    """Whether there is a trail."""
    return _trail is not None


def reopen() -> None:
    """Open the file anew, after it was renamed; for SIGHUP."""
    if _trail is not None:
        _trail.file.reopen()


def is_failing() -> bool:
    """Whether records wait that cannot be written."""
    return _trail is not None and _trail.file.is_failing()


def must_stop() -> bool:
    """Whether no association may be taken, since its record could not be written."""
    return _trail is not None and _trail.file.must_stop()


def act_as(user: str, address: str = "") -> None:
    """Name the user of all that happens in the rest of the calling task, or context."""
    _actor.set(m.Participant(m.cut(user), address, is_requestor=True))


def actor() -> str:
    """The acting user: name and address; empty for the node itself."""
    who = _actor.get()
    return "" if who is None else f"{who.user_id}@{who.address}"


def actor_address() -> str:
    """Where the acting user is; empty for the node itself."""
    who = _actor.get()
    return "" if who is None else who.address


# The application (A.5.3.1)


def application_started() -> None:
    """The node serves."""
    _application(m.APPLICATION_START)


def application_stopped(reason: str = "") -> None:
    """The node ends; `reason` when it had to."""
    _application(m.APPLICATION_STOP, reason)


def _application(kind: m.Code, reason: str = "") -> None:
    if _trail is not None:
        here = (_trail.here(m.APPLICATION),)
        outcome = m.EventOutcome.SERIOUS_FAILURE if reason else m.EventOutcome.SUCCESS
        event = m.APPLICATION_ACTIVITY
        _trail.write(
            _trail.message(event, m.EXECUTE, here, kind=kind, reason=reason, outcome=outcome)
        )


# Associations: systems that enter and leave (A.5.3.9), or may not; peers (A.5.3.11)


def association_began(peer: AuditedPeer, called_ae_title: str, reason: str = "") -> None:
    """A peer's association was accepted; `reason` when there was no room for it."""
    _network(m.ATTACH, peer, called_ae_title, reason)


def association_ended(peer: AuditedPeer, called_ae_title: str, reason: str = "") -> None:
    """It ended; `reason` when that was no orderly release."""
    _network(m.DETACH, peer, called_ae_title, reason)


def _network(kind: m.Code, peer: AuditedPeer, called_ae_title: str, reason: str = "") -> None:
    if _trail is None:
        return
    if reason:
        message = _network_message(_trail, kind, peer, called_ae_title, reason)
        _trail.write(message, (kind.value, source_of(peer.address)))
        return
    trail = _trail
    what = (os.getpid(), kind.value, peer.ae_title, peer.address, called_ae_title)
    trail.write_prepared(what, lambda: _prepare_network(trail, kind, peer, called_ae_title))


def _network_message(
    trail: AuditTrail, kind: m.Code, peer: AuditedPeer, called_ae_title: str, reason: str = ""
) -> m.AuditMessage:
    # The schema of this event has no requestor.
    entering = m.Participant(peer.ae_title, peer.address, role=m.SOURCE)
    here = replace(trail.here(m.DESTINATION), user_id=called_ae_title or trail.ae_title)
    both = (entering, here)
    return trail.message(m.NETWORK_ENTRY, m.EXECUTE, both, kind=kind, reason=reason)


def _prepare_network(
    trail: AuditTrail, kind: m.Code, peer: AuditedPeer, called_ae_title: str
) -> Prepared:
    message = _network_message(trail, kind, peer, called_ae_title)
    text = trail.text(message, NO_TIME)
    source = (kind.value, source_of(peer.address))
    return Prepared(message, text, repeat_key(message, text), source)


def association_rejected(peer: AuditedPeer, called_ae_title: str, reason: str) -> None:
    """A peer was rejected: it is not known here, or did not prove its identity."""
    _alert(m.NODE_AUTHENTICATION, _as_requestor(peer), called_ae_title, reason)


def not_authorised(peer: AuditedPeer, service: str, reason: str) -> None:
    """A peer asked for a service that it may not use."""
    _alert(m.RESTRICTED_FUNCTION, _as_requestor(peer), service, reason)


def peer_changed(ae_title: str, what: str) -> None:
    """The acting user added, changed or removed a peer of this node.

    Args:
        what: was done, and where the peer is; no secrets.
    """
    if _trail is None:
        return
    who = _actor.get() or _trail.here(is_requestor=True)
    kind, event = m.NETWORK_CONFIGURATION, m.SECURITY_ALERT
    subject = (m.Subject(ae_title, m.cut(what)),)
    _trail.write(_trail.message(event, m.EXECUTE, (who, _trail.here()), subject, kind=kind))


def _alert(kind: m.Code, who: m.Participant, what: str, reason: str) -> None:
    if _trail is None:
        return
    participants = (who, _trail.here())
    subject = (m.Subject(what or _trail.ae_title, reason),)
    _trail.write(
        _trail.message(
            m.SECURITY_ALERT,
            m.EXECUTE,
            participants,
            subject,
            kind=kind,
            reason=reason,
            outcome=m.EventOutcome.MINOR_FAILURE,
        )
    )


# Instances (A.5.3.7, A.5.3.3), queries (A.5.3.10), procedures (A.5.3.13), deletions (A.5.3.8)


def instances_received(
    peer: AuditedPeer, study_uid: str, transfer: Transfer, patient: m.Patient | None
) -> None:
    """A peer, or the acting user, stored instances of one study here."""
    if _trail is None:
        return
    sender = _actor.get() or _as_requestor(peer)
    participants = (replace(sender, role=m.SOURCE), _trail.here(m.DESTINATION))
    _transferred(participants, m.CREATE, study_uid, transfer, patient)


def instances_refused(peer: AuditedPeer, failures: Mapping[str, int]) -> None:
    """Instances that a peer, or the acting user, sent were not stored: how many, by status."""
    if _trail is None:
        return
    sender = _actor.get() or _as_requestor(peer)
    participants = (replace(sender, role=m.SOURCE), _trail.here(m.DESTINATION))
    reason = ", ".join(f"{number} answered {status}" for status, number in failures.items())
    event = m.INSTANCES_TRANSFERRED
    message = _trail.message(event, m.CREATE, participants, reason=m.cut(reason))
    # Ever other counts make none of them alike.
    _trail.write(message, ("refused", source_of(peer.address)))


def instances_sent(
    requestor: AuditedPeer,
    destination: AuditedPeer,
    study_uid: str,
    transfer: Transfer,
    patient: m.Patient | None,
) -> None:
    """Instances of one study went to a peer, asked for by that peer or another."""
    if _trail is None:
        return
    here = _trail.here(m.SOURCE)
    participants: tuple[m.Participant, ...]
    if destination == requestor:
        participants = (here, replace(_as_requestor(requestor), role=m.DESTINATION))
    else:
        receiver = m.Participant(destination.ae_title, destination.address, role=m.DESTINATION)
        participants = (here, receiver, _as_requestor(requestor))
    _transferred(participants, m.READ, study_uid, transfer, patient)


def _transferred(
    participants: tuple[m.Participant, ...],
    action: str,
    study_uid: str,
    transfer: Transfer,
    patient: m.Patient | None,
) -> None:
    assert _trail is not None  # noqa: S101 - the caller looked
    failed = transfer.failed
    details = {"bytes": transfer.size, "failed": failed} if failed else {"bytes": transfer.size}
    study = m.Study(study_uid, transfer.instances, details)
    objects = (study,) if patient is None else (study, patient)
    reason = f"{failed} instances failed" if failed else ""
    event = m.INSTANCES_TRANSFERRED
    _trail.write(_trail.message(event, action, participants, objects, reason=reason))


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
    if _trail is None:
        return
    source = source_of(peer.address)
    is_short = not _trail.queries.may_write(source, lambda *_: None)
    query = m.QueryObject.of(sop_class_uid, identifier, details, is_short=is_short)
    participants = (replace(_as_requestor(peer), role=m.SOURCE), _trail.here(m.DESTINATION))
    message = _trail.message(m.QUERY, m.EXECUTE, participants, (query,), reason=m.cut(reason))
    _trail.write(message, source if is_short else None, _trail.short_queries)


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
        action: of audit_message: CREATE, UPDATE or READ.
        status: of the step.
    """
    if _trail is None:
        return
    participants = (_as_requestor(peer), _trail.here())
    study = m.Study(study_uid, {}, {"status": status}, procedure_step_uid)
    objects = (study,) if patient is None else (study, patient)
    _trail.write(_trail.message(m.PROCEDURE_RECORD, action, participants, objects))


def deleted(
    study_uid: str, instances: Mapping[str, int], patient: m.Patient | None, part: str = ""
) -> None:
    """A study was deleted, or a part of it, which `part` names."""
    _on_study(
        m.INSTANCES_ACCESSED if part else m.STUDY_DELETED,
        m.DELETE,
        study_uid,
        instances,
        patient,
        {"deleted": part} if part else {},
    )


def changed(study_uid: str, details: Mapping[str, object], patient: m.Patient | None) -> None:
    """A study was corrected, protected or labelled, or that was undone; `details` say how."""
    _on_study(m.INSTANCES_ACCESSED, m.UPDATE, study_uid, {}, patient, details)


def accessed(study_uid: str, how: str, patient: m.Patient | None) -> None:
    """A user looked at a study, or downloaded it, through the page or the API."""
    _on_study(m.INSTANCES_ACCESSED, m.READ, study_uid, {}, patient, {"access": how})


def log_used(uri: str) -> None:
    """The acting user looked at the audit trail itself (A.5.3.2)."""
    if _trail is None:
        return
    reader = _actor.get() or _trail.here(is_requestor=True)
    _trail.write(_trail.message(m.AUDIT_LOG_USED, m.READ, (reader,), (m.AuditLog(uri),)))


def worklist_item_recorded(
    action: str, study_uid: str, details: Mapping[str, object], patient: m.Patient | None
) -> None:
    """The acting user made, changed or removed an entry of the worklist (Procedure Record).

    Args:
        action: CREATE, UPDATE or DELETE of `audit_message`.
        details: what names the entry: its number, its accession number.
    """
    _on_study(m.PROCEDURE_RECORD, action, study_uid, {}, patient, details)


def _on_study(
    event: m.Code,
    action: str,
    study_uid: str,
    instances: Mapping[str, int],
    patient: m.Patient | None,
    details: Mapping[str, object],
) -> None:
    if _trail is None:
        return
    actor = _actor.get() or _trail.here(is_requestor=True)
    study = m.Study(study_uid, instances, details)
    objects = (study,) if patient is None else (study, patient)
    _trail.write(_trail.message(event, action, (actor,), objects))


# People (A.5.3.12)


def user_authenticated(user: str, address: str, *, reason: str = "") -> None:
    """A user logged in at the page, or failed to, for `reason`."""
    _authentication(m.LOGIN, user, address, reason)


def user_left(user: str, address: str) -> None:
    """A user logged out."""
    _authentication(m.LOGOUT, user, address)


def _authentication(kind: m.Code, user: str, address: str, reason: str = "") -> None:
    if _trail is None:
        return
    who = (m.Participant(m.cut(user), address, is_requestor=True), _trail.here())
    _trail.write(_trail.message(m.USER_AUTHENTICATION, m.EXECUTE, who, kind=kind, reason=reason))


def _as_requestor(peer: AuditedPeer) -> m.Participant:
    return m.Participant(peer.ae_title, peer.address, is_requestor=True)
