"""Asks a DICOMweb server whether it answers."""

from __future__ import annotations

from lfscp.scu.connection import NEVER, Flag
from lfscp.scu.dicomweb.peer import DICOMwebPeer
from lfscp.scu.echo import EchoResult


def echo(peer: DICOMwebPeer, *, cancel: Flag = NEVER) -> EchoResult:
    """Verify that a server answers a search as DICOMweb does, with our credentials.

    Args:
        cancel: once set, the wait for the server ends.
    Returns:
        The duration; the implementation version name is what the server calls itself (Server).
    Raises:
        GivenUpError: it was cancelled.
        PeerError: it does not answer, refuses, or is no DICOMweb server.
    """
    raise NotImplementedError
