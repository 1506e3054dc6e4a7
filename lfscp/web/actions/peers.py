"""Finds the peer that a request names or describes; adds and removes peers."""

from __future__ import annotations

from http import HTTPStatus
from typing import Annotated, Any, Final

from fastapi import Request
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    model_validator,
)

from lfscp.config import PeerSettings
from lfscp.config.checks import AETitle, check_dicomweb_url
from lfscp.config.roles import Role
from lfscp.observe import audit
from lfscp.services.access.known_peers import KnownPeer
from lfscp.web.context import Web, caller_of
from lfscp.web.problems import Problem, not_found

Host = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=255)]


URL = Annotated[
    str,
    StringConstraints(strip_whitespace=True, min_length=1, max_length=2048),
    AfterValidator(check_dicomweb_url),
]
_LOGIN: Final = ("user", "password", "token")


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


class DICOMwebIn(Asked):
    """A DICOMweb server, given with the request; it takes the role admin."""

    url: URL = Field(description="Its URL before /studies.")

    @model_validator(mode="before")
    @classmethod
    def _has_no_login(cls, given: Any) -> Any:
        if isinstance(given, dict) and any(name in given for name in _LOGIN):
            raise ValueError("a login is not taken here; configure the peer, and name it")
        return given


class NamedDICOMwebIn(DICOMwebIn):
    """A DICOMweb server to add as a peer."""

    ae_title: AETitle = Field(description="The name by which to ask it, like an AE title.")


def peer_given(
    request: Request, web: Web, asked: str | PeerIn | DICOMwebIn, pointer: str = "/peer"
) -> Any:
    """The same as `peer_of`, also for a DICOMweb server that only admins may give.

    A URL makes the node ask any HTTP server that it can reach, also those of its own network that
    trust it. So whoever may only work with known peers cannot give one.

    Raises:
        Problem: no such peer is known, or the request's login may not give a URL.
    """
    if not isinstance(asked, DICOMwebIn):
        return peer_of(web, asked, pointer)
    caller = caller_of(request)
    if not caller.role.may(Role.ADMIN):
        detail = f"only the role admin may give a URL, your login has the role {caller.role}"
        address = request.client.host if request.client else ""
        audit.not_authorised(
            audit.AuditedPeer(caller.name, address), f"DICOMweb at {asked.url}", detail
        )
        errors = [{"pointer": f"{pointer}/url", "detail": detail}]
        raise Problem(HTTPStatus.FORBIDDEN, f"{detail}; name a known peer", errors=errors)
    return _configured("", PeerSettings(url=asked.url), web)


def _configured(name: str, peer: PeerSettings, web: Web) -> Any:
    from lfscp.jobs.peers.described import configured_peer

    return configured_peer(name, peer, web.settings.server)


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
            return _configured(title, configured, web)
        known = web.peers.get(title)
        if known is None:
            titles = ", ".join(peer.ae_title for peer in web.peers.all()) or "none"
            detail = f"no peer {asked!r} is known; known are {titles}"
            errors = [{"pointer": pointer, "detail": detail}]
            raise Problem(422, f"{pointer[1:]}: {detail}", errors=errors)
        if known.url:
            return _configured(title, PeerSettings(url=known.url), web)
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


def put(web: Web, asked: PeerIn | NamedDICOMwebIn) -> KnownPeer:
    """Add a peer, or change an added one.

    Raises:
        Problem: it is in the configuration.
    """
    if isinstance(asked, PeerIn):
        known = KnownPeer(asked.ae_title, asked.host, asked.port, asked.tls)
    else:
        known = KnownPeer(asked.ae_title, url=asked.url)
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
