"""Finds the peer that a request names or describes; adds and removes peers."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from lfscp.config.checks import AETitle
from lfscp.services.access.known_peers import KnownPeer
from lfscp.web.context import Web
from lfscp.web.problems import Problem, not_found

Host = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=255)]


class Asked(BaseModel):
    """A request body: an unknown field is an error."""

    model_config = ConfigDict(extra="forbid")


class PeerIn(Asked):
    """A remote application entity, given with the request."""

    ae_title: AETitle = Field(description="The AE title to call.")
    host: Host
    port: int = Field(ge=1, le=65535)
    tls: bool = False
    calling_ae_title: AETitle | None = Field(None, description="Default: the node's own.")


def peer_of(web: Web, asked: str | PeerIn, pointer: str = "/peer") -> Any:
    """The peer that a request names or describes, as the client side takes it.

    Args:
        pointer: JSON pointer to the field that names it.
    Raises:
        Problem: no such peer is known.
    """
    from lfscp.scu.peer import Peer

    server = web.settings.server
    if isinstance(asked, str):
        title = asked.strip()
        configured = web.peers.configured.get(title)
        if configured is not None:
            return Peer.configured(title, configured, server)
        known = web.peers.get(title)
        if known is None:
            titles = ", ".join(peer.ae_title for peer in web.peers.all()) or "none"
            detail = f"no peer {asked!r} is known; known are {titles}"
            errors = [{"pointer": pointer, "detail": detail}]
            raise Problem(422, f"{pointer[1:]}: {detail}", errors=errors)
        asked = PeerIn.model_construct(
            ae_title=title, host=known.host, port=known.port, tls=known.tls, calling_ae_title=None
        )
    return Peer(
        asked.ae_title,
        asked.host,
        asked.port,
        calling_ae_title=asked.calling_ae_title or server.ae_title,
        tls=asked.tls,
        connect_timeout_s=min(10.0, server.acse_timeout_s),
        acse_timeout_s=server.acse_timeout_s,
        dimse_timeout_s=max(60.0, server.dimse_timeout_s),
    )


def put(web: Web, asked: PeerIn) -> KnownPeer:
    """Add a peer, or change an added one.

    Raises:
        Problem: it is in the configuration.
    """
    known = KnownPeer(asked.ae_title, asked.host, asked.port, asked.tls)
    try:
        web.peers.put(known)
    except ValueError as error:
        raise Problem(409, str(error)) from None
    return known


def drop(web: Web, ae_title: str) -> None:
    """Remove an added peer.

    Raises:
        Problem: it does not exist, or is in the configuration.
    """
    try:
        removed = web.peers.remove(ae_title)
    except ValueError as error:
        raise Problem(409, str(error)) from None
    if not removed:
        raise not_found("peer", ae_title)
