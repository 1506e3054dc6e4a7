"""Decides which services a peer may use: the `may` of its configuration.

An AE title that is not configured may do everything. Whether it may associate at all is decided
earlier (`server.require_known_peers`).
"""

from __future__ import annotations

from collections.abc import Mapping

from lfscp.config import PeerSettings
from lfscp.config.checks import Permission


def calling_peer(peers: Mapping[str, PeerSettings], calling_ae_title: str) -> PeerSettings | None:
    """The configured peer with this AE title; a DICOMweb peer has a name, but calls nobody."""
    peer = peers.get(calling_ae_title.strip(" "))
    return None if peer is None or peer.is_dicomweb else peer


def may(peers: Mapping[str, PeerSettings], calling_ae_title: str, right: Permission) -> bool:
    """Whether the peer with this AE title (spaces around it do not count) may do `right`."""
    peer = calling_peer(peers, calling_ae_title)
    return peer is None or right in peer.may


def destination(
    peers: Mapping[str, PeerSettings], ae_title: str, calling_ae_title: str = ""
) -> PeerSettings | None:
    """The peer with this AE title, if objects may be moved to it; else None.

    A DICOMweb peer is no move destination.

    Args:
        ae_title: the move destination.
        calling_ae_title: of the requestor of the move.
    """
    title = ae_title.strip(" ")
    requestor = calling_peer(peers, calling_ae_title)
    if requestor is not None and requestor.may_move_to and title not in requestor.may_move_to:
        return None
    peer = calling_peer(peers, title)
    return peer if peer is not None and "destination" in peer.may else None
