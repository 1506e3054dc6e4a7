"""Events of systems: the node starts and ends, peers associate, are refused or are configured.

Source: PS3.15 A.5.3.1, A.5.3.9 and A.5.3.11.
"""

from __future__ import annotations

import os
from dataclasses import replace

from lfscp.observe.audit import current
from lfscp.observe.audit import message as m
from lfscp.observe.audit.repeats import source_of
from lfscp.observe.audit.subjects import AuditedPeer, as_requestor
from lfscp.observe.audit.trail import NO_TIME, AuditTrail, Prepared, repeat_key


def application_started() -> None:
    """The node serves."""
    _application(m.APPLICATION_START)


def application_stopped(reason: str = "") -> None:
    """The node ends; `reason` when it had to."""
    _application(m.APPLICATION_STOP, reason)


def _application(kind: m.Code, reason: str = "") -> None:
    trail = current.trail()
    if trail is not None:
        here = (trail.here(m.APPLICATION),)
        outcome = m.EventOutcome.SERIOUS_FAILURE if reason else m.EventOutcome.SUCCESS
        event = m.APPLICATION_ACTIVITY
        trail.write(
            trail.message(event, m.EXECUTE, here, kind=kind, reason=reason, outcome=outcome)
        )


def association_began(peer: AuditedPeer, called_ae_title: str, reason: str = "") -> None:
    """A peer's association was accepted; `reason` when there was no room for it."""
    _network(m.ATTACH, peer, called_ae_title, reason)


def association_ended(peer: AuditedPeer, called_ae_title: str, reason: str = "") -> None:
    """It ended; `reason` when that was no orderly release."""
    _network(m.DETACH, peer, called_ae_title, reason)


def _network(kind: m.Code, peer: AuditedPeer, called_ae_title: str, reason: str = "") -> None:
    trail = current.trail()
    if trail is None:
        return
    if reason:
        message = _network_message(trail, kind, peer, called_ae_title, reason)
        trail.write(message, (kind.value, source_of(peer.address)))
        return
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
    _alert(m.NODE_AUTHENTICATION, as_requestor(peer), called_ae_title, reason)


def not_authorised(peer: AuditedPeer, service: str, reason: str) -> None:
    """A peer asked for a service that it may not use."""
    _alert(m.RESTRICTED_FUNCTION, as_requestor(peer), service, reason)


def peer_changed(ae_title: str, what: str) -> None:
    """The acting user added, changed or removed a peer of this node.

    Args:
        what: was done, and where the peer is; no secrets.
    """
    trail = current.trail()
    if trail is None:
        return
    who = current.participant() or trail.here(is_requestor=True)
    kind, event = m.NETWORK_CONFIGURATION, m.SECURITY_ALERT
    subject = (m.Subject(ae_title, m.cut(what)),)
    trail.write(trail.message(event, m.EXECUTE, (who, trail.here()), subject, kind=kind))


def _alert(kind: m.Code, who: m.Participant, what: str, reason: str) -> None:
    trail = current.trail()
    if trail is None:
        return
    participants = (who, trail.here())
    subject = (m.Subject(what or trail.ae_title, reason),)
    trail.write(
        trail.message(
            m.SECURITY_ALERT,
            m.EXECUTE,
            participants,
            subject,
            kind=kind,
            reason=reason,
            outcome=m.EventOutcome.MINOR_FAILURE,
        )
    )
