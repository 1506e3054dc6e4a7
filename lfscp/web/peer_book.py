"""The peers that the page knows: those of the configuration, and those added while it runs.

They are whom jobs may be sent to, and where this node moves objects; what a peer may ask of it
stands in the configuration alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from lfscp.config import PeerSettings
from lfscp.services.access.added_peers import AddedPeers


@dataclass(frozen=True, slots=True)
class KnownPeer:
    """A remote application entity; `is_configured` ones cannot be removed here."""

    ae_title: str
    host: str
    port: int
    tls: bool = False
    is_configured: bool = False


class PeerBook:
    """All known peers by AE title. Any thread may ask.

    Args:
        configured: the setting `peers`.
        added: those added while the node runs.
    """

    def __init__(self, configured: Mapping[str, PeerSettings], added: AddedPeers) -> None:
        self._added = added
        self.configure(configured)

    def configure(self, configured: Mapping[str, PeerSettings]) -> None:
        """Take over the configured peers, at the start and when they have changed."""
        self.configured = configured
        self._configured = {
            title: KnownPeer(title, peer.host, peer.port, peer.tls, is_configured=True)
            for title, peer in configured.items()
        }

    def all(self) -> list[KnownPeer]:
        """All of them, by AE title."""
        added = {title: _known(title, peer) for title, peer in self._added.all().items()}
        peers = {**added, **self._configured}
        return [peers[title] for title in sorted(peers)]

    def get(self, ae_title: str) -> KnownPeer | None:
        """The peer with that AE title; the configuration goes before what was added."""
        added = self._added.get(ae_title)
        known = self._configured.get(ae_title)
        return known or (_known(ae_title, added) if added is not None else None)

    def put(self, peer: KnownPeer) -> None:
        """Add a peer, or replace an added one.

        Raises:
            ValueError: the configuration has one with that AE title.
            OSError: it cannot be written.
        """
        if peer.ae_title in self._configured:
            raise ValueError(f"{peer.ae_title} is in the configuration; change it there")
        self._added.put(peer.ae_title, PeerSettings(host=peer.host, port=peer.port, tls=peer.tls))

    def remove(self, ae_title: str) -> bool:
        """Remove an added peer; False when there is none.

        Raises:
            ValueError: it is in the configuration.
            OSError: it cannot be written.
        """
        if ae_title in self._configured:
            raise ValueError(f"{ae_title} is in the configuration; remove it there")
        return self._added.remove(ae_title)


def _known(ae_title: str, peer: PeerSettings) -> KnownPeer:
    return KnownPeer(ae_title, peer.host, peer.port, peer.tls)
