"""Sends objects to a DICOMweb server by STOW-RS (PS3.18 section 10.5)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from lfscp.archive.store.received_objects import StoredInstance
from lfscp.scu.connection import NEVER, Flag
from lfscp.scu.dicomweb.peer import DICOMwebPeer
from lfscp.scu.send import OnSent, SendResult


def send(
    peer: DICOMwebPeer,
    instances: Sequence[StoredInstance],
    *,
    on_sent: OnSent = lambda _instance, _outcome, _reason: None,
    cancel: Flag = NEVER,
    locate: Callable[[StoredInstance], StoredInstance | None] = lambda _instance: None,
) -> SendResult:
    """Send objects as they are; if one fails, the others are sent all the same.

    Args:
        instances: from an archive or from `scu.send.objects_in`.
        on_sent: called once for each, when the server has answered; an error that it raises ends
            the send.
        cancel: once set, no further object is sent; the request on its way has a second.
        locate: gives the place of an instance whose file has moved.
    Raises:
        GivenUpError: it was cancelled before anything was sent.
        PeerError: the server cannot be reached, refuses us, or broke several times in a row.
    """
    raise NotImplementedError
