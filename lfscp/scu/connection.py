"""Opens an association with a peer for as long as it is needed, or says why there is none."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final, Protocol

from pynetdicom.presentation import PresentationContext

from lfscp.scu.errors import GivenUpError, PeerError, PeerErrorKind, UnsupportedError
from lfscp.scu.peer import Peer
from lfscp.upperlayer.connection.errors import CalledOffError
from lfscp.upperlayer.connection.limits import ReceiveLimits
from lfscp.upperlayer.engine.association import InlineAssociation
from lfscp.upperlayer.requestor import associate

_USER_NOT_VERIFIED: Final = (2, 1)  # source and reason that most servers give (PS3.7 D.3.3.7)
_TRANSIENT: Final = 2  # result of an A-ASSOCIATE-RJ: rejected for now
_LOOK_EVERY_S: Final = 0.25  # whether somebody wants to stop
_MIN_BYTES_PER_S: Final = 100  # of a message that lasts longer than the DIMSE timeout
# A match has a few kilobytes. The list of what a retrieve could not send has up to 65 bytes each.
MAX_MATCH_BYTES: Final = 1 << 20
MAX_RETRIEVE_RESPONSE_BYTES: Final = 4 << 20


class Flag(Protocol):
    """Says whether to stop; a threading.Event is one."""

    def is_set(self) -> bool:
        """Whether to stop."""
        ...


NEVER: Final[Flag] = threading.Event()  # nothing sets it


@contextmanager
def association(
    peer: Peer,
    contexts: Sequence[PresentationContext],
    *,
    service: str,
    ext_neg: Sequence[Any] = (),
    evt_handlers: Sequence[Any] = (),
    cancel: Flag = NEVER,
    while_waiting: Callable[[], None] | None = None,
    max_response_bytes: int = MAX_MATCH_BYTES,
    max_object_bytes: int = 0,
    shortage: Callable[[], str] | None = None,
) -> Iterator[InlineAssociation]:
    """An established association; released at the end, aborted after an error.

    Args:
        contexts: to propose, 1 to 128.
        service: what is wanted of the peer, for the message that it does not support it.
        ext_neg: further negotiation items (roles, for a C-GET).
        cancel: once set, the wait for the connection, for the answer to the request and for the
            answer to the release ends.
        while_waiting: called several times a second during any other wait for the peer; it ends
            the association by raising `CalledOffError`, by default when `cancel` is set.
        max_response_bytes: largest data set of a response; the association ends at a larger one.
        max_object_bytes: largest object that is taken; 0 is no limit.
        shortage: why a large object may not grow on the disk now; empty while it may.
    Raises:
        GivenUpError: `cancel` was set before the association was established.
        PeerError: there is none; the reason says why.
    """
    started = time.monotonic()
    is_open = is_given_up = False

    def look() -> None:
        nonlocal is_given_up
        if is_open and while_waiting is not None:
            while_waiting()
        elif cancel.is_set():
            is_given_up = True
            raise CalledOffError("called off")

    limits = ReceiveLimits(
        max_object_bytes, _MIN_BYTES_PER_S, max_response_bytes, shortage=shortage
    )
    opened = _open(peer, contexts, ext_neg, evt_handlers, look, limits)
    if not opened.is_established:
        if is_given_up:
            raise GivenUpError(peer)
        if opened.rejected_contexts and not opened.accepted_contexts:
            raise UnsupportedError(peer, service, opened.rejected_contexts)
        raise _failure(peer, opened, time.monotonic() - started)
    is_open = True
    try:
        yield opened
    except BaseException:
        if opened.is_established:
            opened.abort()
        raise
    finally:
        opened.receiver.discard()  # half an object leaves no file
    is_open = False
    if opened.is_established:
        opened.release()


def _open(
    peer: Peer,
    contexts: Sequence[PresentationContext],
    ext_neg: Sequence[Any],
    evt_handlers: Sequence[Any],
    while_waiting: Callable[[], None],
    limits: ReceiveLimits,
) -> InlineAssociation:
    try:
        return associate(
            (peer.host, peer.port),
            calling_ae_title=peer.calling_ae_title,
            called_ae_title=peer.ae_title,
            contexts=contexts,
            ssl_context=peer.ssl_context(),
            acse_timeout_s=peer.acse_timeout_s,
            dimse_timeout_s=peer.dimse_timeout_s,
            network_timeout_s=peer.dimse_timeout_s,
            connection_timeout_s=peer.connect_timeout_s,
            ext_neg=ext_neg,
            user=peer.user,
            passcode=peer.password,
            evt_handlers=evt_handlers,
            while_waiting=while_waiting,
            look_every_s=_LOOK_EVERY_S,
            limits=limits,
        )
    except UnicodeError:  # a name that no server can have, such as one with an empty label
        reason = "cannot be reached: its name is no host name"
        raise PeerError(PeerErrorKind.UNREACHABLE, peer, reason, passing=False) from None
    except OSError as error:  # its name is unknown, or a certificate cannot be read
        reason = f"cannot be reached: {error.strerror or error}"
        raise PeerError(PeerErrorKind.UNREACHABLE, peer, reason) from error


def _failure(peer: Peer, attempt: InlineAssociation, waited_s: float) -> PeerError:
    if attempt.is_rejected:
        answer = attempt.acceptor.primitive
        reason, passing = "rejected the association", False
        if answer is not None and answer.result in (1, 2):
            reason += f": {answer.reason_str} ({answer.result_str})"
            if (answer.result_source, answer.diagnostic) == _USER_NOT_VERIFIED:
                wrong = "are user and passcode right" if peer.user else "does it ask for a user"
                reason += f"; {wrong}?"
            passing = answer.result == _TRANSIENT
        return PeerError(PeerErrorKind.REJECTED, peer, reason, passing=passing)
    reason = attempt.end_reason or ""
    if reason.startswith("cannot connect"):
        what = f"cannot be reached: {reason.partition(': ')[2]}"
        return PeerError(PeerErrorKind.UNREACHABLE, peer, what)
    if not reason and waited_s >= peer.acse_timeout_s:
        waited = f"took the connection, but did not answer within {peer.acse_timeout_s:g} s"
        return PeerError(PeerErrorKind.TIMED_OUT, peer, waited)
    why = f"ended the connection before the association: {reason or 'is it a DICOM server?'}"
    return PeerError(PeerErrorKind.ABORTED, peer, why)
