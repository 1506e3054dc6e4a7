"""Knows the peers that jobs can be sent to and objects be moved to: configured ones and added ones.

Rules: a configured peer goes before an added one with the same AE title. The login for a DICOMweb
peer stands in the configuration alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass

from lfscp.config import PeerSettings
from lfscp.config.checks import Permission
from lfscp.services.access.added_peers import AddedPeers, added_peer


@dataclass(frozen=True, slots=True)
class KnownPeer:
    """Another node; a configured one cannot be changed while this node runs.

    Args:
        ae_title: of a DICOMweb peer, its name.
        host: with `port` and `tls`, of an application entity.
        url: of a DICOMweb peer.
        tls_verify: how its certificate is verified: "host", "certificate" or "none".
        may: what it may ask of this node; None if that was not said: as an unknown AE title, and
            objects may be moved to it.
    """

    ae_title: str
    host: str = ""
    port: int = 0
    tls: bool = False
    is_configured: bool = False
    url: str = ""
    tls_verify: str = "host"
    may: tuple[Permission, ...] | None = None

    @property
    def address(self) -> str:
        """Where it is, in words."""
        return self.url or f"{self.host}:{self.port}{' TLS' if self.tls else ''}"


class KnownPeers:
    """The known peers by AE title. Any thread may ask.

    Args:
        configured: the setting `peers`; replaced when the settings are read again.
        added: the peers that were added while the node ran.
    """

    def __init__(self, configured: Mapping[str, PeerSettings], added: AddedPeers) -> None:
        self.configured = configured
        self._added = added

    def all(self) -> list[KnownPeer]:
        """All of them, by AE title."""
        configured = self.configured
        peers = {**self._added.all(), **configured}
        return [
            _known(title, peer, is_configured=title in configured)
            for title, peer in sorted(peers.items(), key=lambda each: each[0])
        ]

    def get(self, ae_title: str) -> KnownPeer | None:
        """The peer with that AE title."""
        return next((peer for peer in self.all() if peer.ae_title == ae_title), None)

    def settings(self, ae_title: str) -> PeerSettings | None:
        """The same as it is configured, or was added."""
        return self.configured.get(ae_title) or self._added.get(ae_title)

    def put(self, peer: KnownPeer) -> None:
        """Add a peer, or replace an added one.

        Raises:
            ValueError: the configuration has one with that AE title.
            OSError: it cannot be written.
        """
        if peer.ae_title in self.configured:
            raise ValueError(f"{peer.ae_title} is in the configuration; change it there")
        self._added.put(peer.ae_title, added_peer(asdict(peer)))

    def remove(self, ae_title: str) -> bool:
        """Remove an added peer; False when there is none.

        Raises:
            ValueError: it is in the configuration.
            OSError: it cannot be written.
        """
        if ae_title in self.configured:
            raise ValueError(f"{ae_title} is in the configuration; remove it there")
        return self._added.remove(ae_title)


def _known(title: str, peer: PeerSettings, *, is_configured: bool) -> KnownPeer:
    says_rights = not peer.is_dicomweb and (is_configured or "may" in peer.model_fields_set)
    return KnownPeer(
        title,
        peer.host,
        peer.port,
        peer.tls,
        is_configured,
        peer.url,
        peer.tls_verify,
        tuple(peer.may) if says_rights else None,
    )
