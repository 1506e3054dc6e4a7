"""Events of people: logins, and what the acting user does with studies and the worklist.

Source: PS3.15 A.5.3.2, A.5.3.3, A.5.3.8, A.5.3.12 and A.5.3.13.
"""

from __future__ import annotations

from collections.abc import Mapping

from lfscp.observe.audit import current
from lfscp.observe.audit import message as m


def user_authenticated(user: str, address: str, *, reason: str = "") -> None:
    """A user logged in at the page, or failed to, for `reason`."""
    _authentication(m.LOGIN, user, address, reason)


def user_left(user: str, address: str) -> None:
    """A user logged out."""
    _authentication(m.LOGOUT, user, address)


def _authentication(kind: m.Code, user: str, address: str, reason: str = "") -> None:
    trail = current.trail()
    if trail is None:
        return
    who = (m.Participant(m.cut(user), address, is_requestor=True), trail.here())
    trail.write(trail.message(m.USER_AUTHENTICATION, m.EXECUTE, who, kind=kind, reason=reason))


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
    trail = current.trail()
    if trail is None:
        return
    reader = current.participant() or trail.here(is_requestor=True)
    trail.write(trail.message(m.AUDIT_LOG_USED, m.READ, (reader,), (m.AuditLog(uri),)))


def worklist_item_recorded(
    action: str, study_uid: str, details: Mapping[str, object], patient: m.Patient | None
) -> None:
    """The acting user made, changed or removed an entry of the worklist (Procedure Record).

    Args:
        action: CREATE, UPDATE or DELETE of `message`.
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
    trail = current.trail()
    if trail is None:
        return
    actor = current.participant() or trail.here(is_requestor=True)
    study = m.Study(study_uid, instances, details)
    objects = (study,) if patient is None else (study, patient)
    trail.write(trail.message(event, action, (actor,), objects))
