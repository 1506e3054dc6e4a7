"""Finds the peer that a request names or describes; adds and removes peers."""

from __future__ import annotations

from http import HTTPStatus
from typing import Annotated, Any, Final, Literal

from fastapi import Request
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    model_validator,
)

from lfscp.config import PeerSettings
from lfscp.config.checks import AETitle, Permission, check_dicomweb_url
from lfscp.config.roles import Role
from lfscp.observe import audit
from lfscp.observe.logging import get_logger
from lfscp.services.access.known_peers import KnownPeer
from lfscp.web.context import Web, caller_of
from lfscp.web.problems import Problem, not_found

Host = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=255)]


URL = Annotated[
    str,
    StringConstraints(strip_whitespace=True, min_length=1, max_length=2048),
    AfterValidator(check_dicomweb_url),
]
LOG: Final = get_logger("lfscp.web")
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


class AddedPeerIn(PeerIn):
    """An application entity to add as a peer, or to change."""

    tls_verify: Literal["host", "certificate", "none"] = Field(
        "host", description="host: its certificate must be valid and name its host."
    )
    may: list[Permission] | None = Field(
        None,
        description="What it may ask of this node; then it is known to the services. null: it is "
        "like an unknown AE title, and objects may be moved to it.",
    )


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
        known = web.peers.settings(title)
        if known is not None:
            return _configured(title, known, web)
        titles = ", ".join(peer.ae_title for peer in web.peers.all()) or "none"
        detail = f"no peer {asked!r} is known; known are {titles}"
        errors = [{"pointer": pointer, "detail": detail}]
        raise Problem(422, f"{pointer[1:]}: {detail}", errors=errors)
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


def peer_to_add(web: Web, asked: AddedPeerIn) -> Any:
    """An application entity as it would be asked once it is added."""
    verify = asked.tls_verify
    place = PeerSettings(host=asked.host, port=asked.port, tls=asked.tls, tls_verify=verify)
    return _configured(asked.ae_title, place, web)


def put(web: Web, asked: PeerIn | NamedDICOMwebIn) -> KnownPeer:
    """Add a peer, or change an added one.

    Raises:
        Problem: it is in the configuration.
    """
    title = asked.ae_title
    if isinstance(asked, NamedDICOMwebIn):
        known = KnownPeer(title, url=asked.url)
    elif isinstance(asked, AddedPeerIn):
        verify, may = asked.tls_verify, None if asked.may is None else tuple(asked.may)
        known = KnownPeer(title, asked.host, asked.port, asked.tls, tls_verify=verify, may=may)
    else:
        known = KnownPeer(title, asked.host, asked.port, asked.tls)
    before = web.peers.get(title)
    try:
        web.peers.put(known)
    except ValidationError as error:
        wrong = error.errors()[0]["msg"].removeprefix("Value error, ")
        raise Problem(422, f"peer: expected {wrong}") from None
    except ValueError as error:
        raise Problem(409, str(error)) from None
    LOG.info("peer changed" if before else "peer added", peer=title, address=known.address)
    told = f"changed from {_told(before)} to {_told(known)}" if before else f"added: {_told(known)}"
    audit.peer_changed(title, told)
    return known


def drop(web: Web, ae_title: str) -> None:
    """Remove an added peer.

    Raises:
        Problem: it does not exist, or is in the configuration.
    """
    before = web.peers.get(ae_title)
    try:
        removed = web.peers.remove(ae_title)
    except ValueError as error:
        raise Problem(409, str(error)) from None
    if not removed:
        raise not_found("peer", ae_title)
    LOG.info("peer removed", peer=ae_title)
    audit.peer_changed(ae_title, f"removed: {_told(before)}" if before else "removed")


def _told(peer: KnownPeer) -> str:
    """A peer for the audit trail: where it is, how its certificate is verified, what it may."""
    verified = f", verified: {peer.tls_verify}" if peer.tls else ""
    rights = "" if peer.may is None else f", may: {', '.join(peer.may) or 'nothing'}"
    return f"{peer.address}{verified}{rights}"
