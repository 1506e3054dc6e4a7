"""The audit trail of this process: where it is written, and which user acts."""

from __future__ import annotations

import socket
from contextvars import ContextVar
from pathlib import Path
from typing import Final, Literal

from lfscp.observe.audit import message as m
from lfscp.observe.audit.log import AuditFile
from lfscp.observe.audit.repeats import Repeats
from lfscp.observe.audit.trail import AuditTrail

Format = Literal["json", "xml"]
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


def trail() -> AuditTrail | None:
    """The trail of this process; None before `start`."""
    return _trail


def participant() -> m.Participant | None:
    """The acting user; None is the node itself."""
    return _actor.get()


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
