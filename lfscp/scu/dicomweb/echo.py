"""Asks a DICOMweb server whether it answers."""

from __future__ import annotations

import time
from typing import Final

from lfscp.scu.connection import NEVER, Flag
from lfscp.scu.dicomweb.find import ACCEPT_JSON, require_json
from lfscp.scu.dicomweb.peer import DICOMwebPeer
from lfscp.scu.dicomweb.session import Session
from lfscp.scu.echo import EchoResult

_TARGET: Final = "/studies?limit=1"


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
    started = time.monotonic()
    with Session(peer, cancel) as session, session.ask("GET", _TARGET, ACCEPT_JSON) as answer:
        answer.require("a search", 200, 204)
        if answer.status == 200:
            require_json(peer, answer)
        name = answer.shown(answer.header("server"))
        duration_ms = round((time.monotonic() - started) * 1000, 1)
        return EchoResult(duration_ms, implementation_version_name=name)
