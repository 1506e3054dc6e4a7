"""Decides which services a peer may use: the `may` of its configuration.

An AE title that is not configured may do everything. Whether it may associate at all is decided
earlier (`server.require_known_peers`).
"""

from __future__ import annotations

from collections.abc import Mapping

from lfscp.config import PeerSettings
from lfscp.config.checks import Permission


def may(peers: Mapping[str, PeerSettings], calling_ae_title: str, right: Permission) -> bool:
    """Whether the peer with this AE title (spaces around it do not count) may do `right`."""
    peer = peers.get(calling_ae_title.strip(" "))
    return peer is None or right in peer.may


def destination(
    peers: Mapping[str, PeerSettings], ae_title: str, calling_ae_title: str = ""
) -> PeerSettings | None:
    """The peer with this AE title, if objects may be moved to it; else None.

    Args:
        ae_title: the move destination.
        calling_ae_title: of the requestor of the move.
    """
    title = ae_title.strip(" ")
    requestor = peers.get(calling_ae_title.strip(" "))
    if requestor is not None and requestor.may_move_to and title not in requestor.may_move_to:
        return None
    peer = peers.get(title)
    return peer if peer is not None and "destination" in peer.may else None
