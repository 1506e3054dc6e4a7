"""Logs and counts each service performed: which association, which object, which status.

The fields of an association are made once and kept while it lives, because every stored object has
a line. The log names UIDs, and never an attribute of a patient.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final
from weakref import WeakKeyDictionary

from lfscp.errors import OperationError
from lfscp.observe import audit, metrics
from lfscp.observe.log_budget import REQUESTS
from lfscp.observe.logging import get_logger

if TYPE_CHECKING:
    from pynetdicom.association import Association
    from pynetdicom.events import Event

Handlers = list[tuple[Any, Any]]  # as pynetdicom takes them

LOG: Final = get_logger("lfscp.services")
_NOT_AUTHORISED: Final = 0x0124
_INTERNAL_ERROR: Final = "internal error, see the log"
_RECEIVED_INSTANCES: Final = metrics.RECEIVED_INSTANCES.of("C-STORE")
_RECEIVED_BYTES: Final = metrics.RECEIVED_BYTES.of("C-STORE")

_known: WeakKeyDictionary[Association, Mapping[str, Any]] = WeakKeyDictionary()


def association_fields(association: Association) -> Mapping[str, Any]:
    """The fields of every line about an association: who talks to whom."""
    fields = _known.get(association)
    if fields is None:
        requestor = association.requestor
        request = requestor.primitive  # once: another thread may be about to set it
        title = requestor.ae_title if request is None else str(request.calling_ae_title)
        fields = {
            "association": getattr(association, "serial", association.name),
            "calling_ae_title": title.strip(),
            "called_ae_title": "" if request is None else str(request.called_ae_title).strip(),
            "peer": f"{requestor.address}:{requestor.port}",
        }
        if request is not None:  # else it has not said who it is yet
            _known[association] = fields
    return fields


def calling_ae_title(event: Event) -> str:
    """The requestor's AE title without the spaces around it."""
    return str(association_fields(event.assoc)["calling_ae_title"])


def after_answer(association: Association, write: Callable[[], None]) -> None:
    """Write a line once the peer has its answer, which does not wait for it."""
    later = getattr(association, "after_answer", None)
    if later is None:  # served by pynetdicom's own server
        write()
    else:
        later(write)


def performed(
    event: Event, service: str, status: int, started: float, *, reason: str = "", **fields: Any
) -> None:
    """Count one service performed and write its line: info if it succeeded, else warning.

    In a flood of requests some lines are left out, but never those of stored objects (`bytes`).

    Args:
        event: the request's event.
        service: "C-STORE", "C-FIND", …
        status: the status answered.
        started: time.monotonic() at the begin of the request.
        reason: why the status is not success.
        fields: sop_class_uid, sop_instance_uid, bytes (of a stored object), counters.
    """
    duration_s = time.monotonic() - started
    code = f"0x{status:04X}"
    metrics.SERVED.of(service, code).observe(duration_s)
    size = fields.get("bytes")
    if size is not None:
        _RECEIVED_INSTANCES.add()
        _RECEIVED_BYTES.add(size)
    failed = status & 0xF000 not in (0x0000, 0xF000, 0xB000) or 0x0100 <= status <= 0x02FF
    if reason:
        fields["reason"] = reason
    if failed:
        _note_failure(event, service, status, reason)
    if status == _NOT_AUTHORISED:
        fields.setdefault("hint", f"peers.{calling_ae_title(event)}.may does not allow it")
    if (failed or size is None) and not REQUESTS.allows(event.assoc.requestor.address or ""):
        return
    write = LOG.warning if failed else LOG.info
    write(
        service,
        **association_fields(event.assoc),
        service=service,
        **fields,
        status=code,
        duration_ms=round(duration_s * 1000, 1),
    )


def _note_failure(event: Event, service: str, status: int, reason: str) -> None:
    if status == _NOT_AUTHORISED:
        requestor = event.assoc.requestor
        peer = audit.AuditedPeer(calling_ae_title(event), requestor.address or "")
        audit.not_authorised(peer, service, reason)
    trail = getattr(event.assoc, "trail", None)
    if trail is not None and service == "C-STORE":
        trail.refused(f"0x{status:04X}")


def describe(error: Exception) -> str:
    """An error in words for the peer or user, without a patient's data.

    The texts of the system and of our own errors are safe; those of libraries may quote a value.
    """
    if isinstance(error, OperationError):
        return str(error)
    if isinstance(error, OSError):
        reason = error.strerror or str(error) or "the system gives no reason"
        return f"{reason}: {error.filename}" if error.filename else reason
    return _INTERNAL_ERROR


def _logged(error: Exception) -> str:
    """The same for the log, which names the kind of an internal error."""
    words = describe(error)
    return type(error).__name__ if words == _INTERNAL_ERROR else words


def failed_unexpectedly(
    event: Event, service: str, error: Exception, status: int | None = None, **fields: Any
) -> None:
    """Log a service that failed by an internal error; the traceback is at level debug.

    Args:
        status: the status answered, if `performed` is not called for the same request.
    """
    if status is not None:
        metrics.FAILED_UNEXPECTEDLY.of(service).add()
        _note_failure(event, service, status, "")
    LOG.error(
        f"{service} failed unexpectedly",
        **association_fields(event.assoc),
        service=service,
        **fields,
        reason=_logged(error),
        exc_info=error,
    )
