"""Describes the peers of jobs: application entities and DICOMweb servers; plain data without I/O.

Rules: a job is stored and shown with its peers, so they are described here without a login.
`asking` takes the login from the configuration when the job runs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Final

from lfscp.observe.audit import AuditedPeer
from lfscp.scu.dicomweb.peer import DICOMwebPeer
from lfscp.scu.peer import Peer
from lfscp.scu.peer_fields import tls_fields

if TYPE_CHECKING:
    from lfscp.config import PeerSettings
    from lfscp.config.server import ServerSection

JobPeer = Peer | DICOMwebPeer

ONLY_HERE: Final = "objects of a DICOMweb server come here; send them on in a job of its own"
_LOGIN: Final = ("user", "password", "token")


def configured_peer(name: str, peer: PeerSettings, server: ServerSection) -> JobPeer:
    """A peer that is configured or was added, as a job has it.

    Args:
        name: its AE title; of a DICOMweb server, its name, or "" if it has none.
    Raises:
        ValueError: a field is not what it should be; the text names it.
    """
    if peer.is_dicomweb:
        return dicomweb_peer(name, peer, server, {})
    return Peer.configured(name, peer, server)


def dicomweb_peer(
    name: str, peer: PeerSettings, server: ServerSection, login: Mapping[str, str]
) -> DICOMwebPeer:
    """A DICOMweb server as it is asked.

    Args:
        login: user and password, or token.
    Raises:
        ValueError: as for `configured_peer`.
    """
    return DICOMwebPeer(
        peer.url,
        name,
        **tls_fields(peer) | dict(login),
        connect_timeout_s=min(10.0, server.acse_timeout_s),
        timeout_s=max(60.0, server.dimse_timeout_s),
    )


def misfit_of(
    peers: Sequence[JobPeer], parameters: Mapping[str, Any], own_title: str
) -> tuple[str, str] | None:
    """The field of a request that does not fit its peers, and why; None if all fit."""
    if any(getattr(peer, name, "") for peer in peers for name in _LOGIN):
        return "peer", "a job is stored without a login; configure the peer, and name it"
    servers = [peer for peer in peers if isinstance(peer, DICOMwebPeer)]
    if not servers:
        return None
    if parameters.get("commit"):
        return "parameters.commit", "a DICOMweb server has no storage commitment"
    if parameters.get("method") == "move":
        return "parameters.method", "a DICOMweb server has no C-MOVE"
    if parameters.get("destination", own_title) not in ("", own_title):
        return "parameters.destination", ONLY_HERE
    return None


def name_of(peer: JobPeer) -> str:
    """What users call the peer: its AE title or name; its URL if it has none."""
    return str(peer) if isinstance(peer, DICOMwebPeer) else peer.ae_title


def address_of(peer: JobPeer) -> str:
    """Where the peer is: host and port, or the URL."""
    return peer.url if isinstance(peer, DICOMwebPeer) else str(peer).partition("@")[2]


def audited(peer: JobPeer) -> AuditedPeer:
    """The peer for the audit trail."""
    host = (peer.split_url.hostname or "") if isinstance(peer, DICOMwebPeer) else peer.host
    return AuditedPeer(name_of(peer), host)


def to_row(peer: JobPeer) -> dict[str, Any]:
    """The peer as a job is stored with it; `from_row` reads it."""
    return {name: value for name, value in asdict(peer).items() if name not in _LOGIN}


def from_row(values: dict[str, Any]) -> JobPeer:
    """A peer from `to_row`'s values.

    Raises:
        ValueError: they are none.
    """
    return DICOMwebPeer.from_json(values) if "url" in values else Peer.from_json(values)


def to_json(peer: JobPeer) -> dict[str, Any]:
    """The peer as a job shows it; a DICOMweb server's name stands where an AE title does."""
    shown = to_row(peer)
    if isinstance(peer, DICOMwebPeer):
        return {"ae_title": shown.pop("name"), **shown}
    return shown
