"""Asks a peer by C-ECHO whether it speaks DICOM (PS3.7 section 9.1.5)."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Final

from pynetdicom import build_context

from lfscp.scu.connection import NEVER, Flag, association
from lfscp.scu.errors import GivenUpError, PeerError, PeerErrorKind, UnsupportedError
from lfscp.scu.peer import Peer
from lfscp.services.status import SUCCESS

_VERIFICATION: Final = "1.2.840.10008.1.1"


@dataclass(frozen=True, slots=True)
class EchoResult:
    """A peer that answered.

    Args:
        duration_ms: from the begin of the connection to the answer.
        implementation_class_uid: as the peer gives it; "" if it does not.
        max_pdu_bytes: the largest P-DATA-TF PDU it takes; 0 is no limit.
    """

    duration_ms: float
    implementation_class_uid: str = ""
    implementation_version_name: str = ""
    max_pdu_bytes: int = 0


def echo(peer: Peer, *, cancel: Flag = NEVER) -> EchoResult:
    """Verify that a peer answers.

    Args:
        cancel: once set, the wait for the peer ends.
    Raises:
        GivenUpError: it was cancelled.
        PeerError: it does not answer, or not with success.
    """
    started = time.monotonic()
    contexts = [build_context(_VERIFICATION)]
    with association(peer, contexts, service="Verification", cancel=cancel) as assoc:
        try:
            answer = assoc.send_c_echo()
        except ValueError:  # pynetdicom: the context was not accepted
            raise UnsupportedError(peer, "Verification") from None
        status = answer.get("Status")
        if status is None:
            if cancel.is_set():
                raise GivenUpError(peer)
            if assoc.end_reason or assoc.is_aborted:
                why = f" ({assoc.end_reason})" if assoc.end_reason else ""
                raise PeerError(PeerErrorKind.ABORTED, peer, f"ended the association{why}")
            reason = f"did not answer the C-ECHO within {peer.dimse_timeout_s:g} s"
            raise PeerError(PeerErrorKind.TIMED_OUT, peer, reason)
        if status != SUCCESS:
            reason = f"answered the C-ECHO with status 0x{status:04X}"
            raise PeerError(PeerErrorKind.REFUSED, peer, reason, status=status)
        other = assoc.acceptor
        return EchoResult(
            round((time.monotonic() - started) * 1000, 1),
            str(other.implementation_class_uid or ""),
            str(other.implementation_version_name or ""),
            other.maximum_length or 0,
        )
