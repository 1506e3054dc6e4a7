"""An association with a peer for as long as it is needed, or the reason why there is none."""

from __future__ import annotations

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

_TRANSIENT: Final = 2  # result of an A-ASSOCIATE-RJ: rejected for now
_LOOK_EVERY_S: Final = 0.25  # whether somebody wants to stop
_MIN_BYTES_PER_S: Final = 100  # of a message that lasts longer than the DIMSE timeout
# A match has a few kilobytes. The list of what a retrieve could not send has up to 65 bytes each.
MAX_MATCH_BYTES: Final = 1 << 20
MAX_RETRIEVE_RESPONSE_BYTES: Final = 4 << 20


class Flag(Protocol):
    """What says whether to stop; a threading.Event does."""

    def is_set(self) -> bool:
        """Whether to stop."""
        ...


@contextmanager
def association(
    peer: Peer,
    contexts: Sequence[PresentationContext],
    *,
    service: str,
    ext_neg: Sequence[Any] = (),
    evt_handlers: Sequence[Any] = (),
    cancel: Flag | None = None,
    while_waiting: Callable[[], None] | None = None,
    max_response_bytes: int = MAX_MATCH_BYTES,
    max_object_bytes: int = 0,
) -> Iterator[InlineAssociation]:
    """An established association; released at the end, aborted after an error.

    Args:
        contexts: to propose, 1 to 128.
        service: what is wanted of the peer, for the message that it does not support it.
        ext_neg: further negotiation items (roles, for a C-GET).
        cancel: once set, the peer is not waited for any longer: neither for its connection, nor for
            its answer to the request, nor for that to the release.
        while_waiting: called several times a second while the peer is waited for in between; it
            ends the association by raising `CalledOffError`, by default when `cancel` is set.
        max_response_bytes: largest data set of a response; the association ends at a larger one.
        max_object_bytes: largest object that is taken; 0 is no limit.
    Raises:
        GivenUpError: `cancel` was set before the association was established.
        PeerError: there is none; the reason says why.
    """
    started = time.monotonic()
    waiting = _Waiting(cancel, while_waiting)
    limits = ReceiveLimits(max_object_bytes, _MIN_BYTES_PER_S, max_response_bytes)
    opened = _open(peer, contexts, ext_neg, evt_handlers, waiting.look, limits)
    if not opened.is_established:
        if waiting.is_given_up:
            raise GivenUpError(peer)
        if opened.rejected_contexts and not opened.accepted_contexts:
            raise UnsupportedError(peer, service, opened.rejected_contexts)
        raise _failure(peer, opened, time.monotonic() - started)
    waiting.is_open = True
    try:
        yield opened
    except BaseException:
        if opened.is_established:
            opened.abort()
        raise
    finally:
        opened.receiver.discard()  # half an object leaves no file
    waiting.is_open = False
    if opened.is_established:
        opened.release()


class _Waiting:
    """What is looked at while the peer is waited for.

    Attributes:
        is_open: the association is established, and not yet to be released.
        is_given_up: the wait was called off.
    """

    def __init__(self, cancel: Flag | None, while_open: Callable[[], None] | None) -> None:
        self._cancel = cancel
        self._while_open = while_open
        self.is_open = False
        self.is_given_up = False

    def look(self) -> None:
        """Called several times a second.

        Raises:
            CalledOffError: nobody wants to wait any longer.
        """
        if self.is_open and self._while_open is not None:
            self._while_open()
        elif self._cancel is not None and self._cancel.is_set():
            self.is_given_up = True
            raise CalledOffError("called off")


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
            evt_handlers=evt_handlers,
            while_waiting=while_waiting,
            look_every_s=_LOOK_EVERY_S,
            limits=limits,
        )
    except UnicodeError:  # a name that no server can have, such as one with an empty label
        reason = "cannot be reached: its name is no host name"
        raise PeerError(PeerErrorKind.UNREACHABLE, peer, reason, passing=False) from None
    except OSError as error:  # its name is unknown, or a certificate cannot be read
        raise PeerError(
            PeerErrorKind.UNREACHABLE, peer, f"cannot be reached: {_plain(error)}"
        ) from error


def _failure(peer: Peer, attempt: InlineAssociation, waited_s: float) -> PeerError:
    """Why there is no association, in words."""
    if attempt.is_rejected:
        answer = attempt.acceptor.primitive
        if answer is not None and answer.result in (1, 2):
            reason = f"rejected the association: {answer.reason_str} ({answer.result_str})"
            return PeerError(
                PeerErrorKind.REJECTED, peer, reason, passing=answer.result == _TRANSIENT
            )
        return PeerError(PeerErrorKind.REJECTED, peer, "rejected the association")
    reason = attempt.end_reason or ""
    if reason.startswith("cannot connect"):
        what = f"cannot be reached: {reason.partition(': ')[2]}"
        return PeerError(PeerErrorKind.UNREACHABLE, peer, what)
    if not reason and waited_s >= peer.acse_timeout_s:
        waited = f"took the connection, but did not answer within {peer.acse_timeout_s:g} s"
        return PeerError(PeerErrorKind.TIMED_OUT, peer, waited)
    why = reason or "is it a DICOM server?"
    return PeerError(
        PeerErrorKind.ABORTED, peer, f"ended the connection before the association: {why}"
    )


def _plain(error: OSError) -> str:
    return error.strerror or str(error)
