"""The peers of the configuration: whether each of them answers, all at the same time."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import repeat
from typing import TYPE_CHECKING, Final

from lfscp.doctor.finding import Finding, fine, warning
from lfscp.jobs.peers.asking import client_of
from lfscp.jobs.peers.described import configured_peer
from lfscp.scu.connection import NEVER
from lfscp.scu.errors import PeerError, PeerErrorKind
from lfscp.scu.peer import Peer

if TYPE_CHECKING:
    from lfscp.config import PeerSettings, Settings

_SUBJECT: Final = "peers"
_AT_ONCE: Final = 16
_WAIT_S: Final = 5.0
_ADVICE: Final = {
    PeerErrorKind.UNREACHABLE: "is it up, are host and port right, and does a firewall let us?",
    PeerErrorKind.REJECTED: "does it know our AE title {ours} and this machine's address, and are "
    "its title and user right?",
    PeerErrorKind.ABORTED: "is it a DICOM server, and does it want TLS (peers.{title}.tls)?",
    PeerErrorKind.TIMED_OUT: "look at its log: it took the connection and said nothing",
    PeerErrorKind.REFUSED: "look at its log: it answered, but not with success",
}


def examine(settings: Settings) -> Iterator[Finding]:
    """Each peer, in the order of the configuration."""
    if not settings.peers:
        yield fine(_SUBJECT, "none are configured")
        return
    with ThreadPoolExecutor(_AT_ONCE) as threads:
        titles, peers = settings.peers.keys(), settings.peers.values()
        yield from threads.map(_ask, titles, peers, repeat(settings))


def _ask(title: str, configured: PeerSettings, settings: Settings) -> Finding:
    peer = configured_peer(title, configured, settings.server)
    try:
        if isinstance(peer, Peer):
            peer = replace(peer, connect_timeout_s=_WAIT_S)
        answer = client_of(peer, settings).echo(cancel=NEVER)
    except PeerError as error:
        advice = _ADVICE[error.kind].format(ours=settings.server.ae_title, title=title)
        return warning(_SUBJECT, f"{title}: {error}", advice)
    except OSError as error:  # a certificate or a key cannot be read
        return warning(_SUBJECT, f"{title}: {error.strerror or error}", f"see peers.{title}.tls_*")
    return fine(_SUBJECT, f"{title}: {peer} answers, {answer.duration_ms:.0f} ms")
