"""The peers on the page of remote PACS: the list, and the form to add, change and test one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, TypeVar, get_args

from fastapi import APIRouter, Request, Response
from fastapi.responses import HTMLResponse
from pydantic import BaseModel, ValidationError

from lfscp.config.checks import Permission
from lfscp.services.access.known_peers import KnownPeer
from lfscp.web.actions.jobs import job_of, submit
from lfscp.web.actions.peers import AddedPeerIn, NamedDICOMwebIn, drop, peer_given, peer_to_add, put
from lfscp.web.context import Context, Web
from lfscp.web.pages.answers import FormFields, peer_named, render
from lfscp.web.problems import Problem, not_found

router = APIRouter(include_in_schema=False, default_response_class=HTMLResponse)
_LABELS: Final = {
    "ae_title": "AE title",
    "calling_ae_title": "our AE title",
    "url": "URL",
    "host": "address",
    "port": "port",
}
# What a peer may ask of this node, in words.
RIGHTS: Final = {
    "echo": "be pinged",
    "store": "store objects",
    "query": "query",
    "retrieve": "retrieve",
    "destination": "receive what others move to it",
    "worklist": "ask for the worklist",
    "procedure-step": "report procedure steps",
    "commit": "ask for commitment",
}
Given = TypeVar("Given", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class PeerForm:
    """The form of one peer.

    Args:
        peer: as it is now; None for a new one.
        is_server: whether it is of a DICOMweb server.
    """

    peer: KnownPeer | None
    is_server: bool

    def may(self, right: str) -> bool:
        """Whether a right is ticked: all of a new peer's."""
        if self.peer is None or self.peer.may is None:
            return self.peer is None or right == "destination"
        return right in self.peer.may


def peers_shown(web: Web) -> dict[str, Any]:
    """What the list of peers needs."""
    return {"peers": web.peers.all(), "rights": RIGHTS, "all_rights": get_args(Permission)}


@router.get("/remote/peers")
def peers(request: Request, web: Context) -> Response:
    """Show the list of peers."""
    return render(request, "peers.html", **peers_shown(web))


@router.get("/remote/peers/{ae_title}/edit")
def edit(request: Request, web: Context, ae_title: str) -> Response:
    """Show the form of an added peer."""
    peer = web.peers.get(ae_title)
    if peer is None:
        raise not_found("peer", ae_title)
    if peer.is_configured:
        raise Problem(409, f"{ae_title} is in the configuration; change it there")
    form = PeerForm(peer, is_server=bool(peer.url))
    return render(request, "peer_form.html", form=form, rights=RIGHTS)


@router.post("/remote/peers")
def add_peer(request: Request, web: Context, form: FormFields) -> Response:
    """Add a peer, or change an added one, and show the list of peers."""
    put(web, peer_from(form))
    return render(request, "peers.html", **peers_shown(web))


@router.post("/remote/peers/test")
def test_peer(request: Request, web: Context, form: FormFields) -> Response:
    """Ping the peer of a form, before it is saved."""
    given = peer_from(form)
    if isinstance(given, NamedDICOMwebIn):
        peer = peer_given(request, web, given)
    else:
        peer = peer_to_add(web, given)
    return render(request, "ping.html", job=submit(web, "echo", peer, {"retries": 0}))


@router.post("/remote/peers/{ae_title}/remove")
def remove_peer(request: Request, web: Context, ae_title: str) -> Response:
    """Remove an added peer, and show the list of peers."""
    drop(web, ae_title)
    return render(request, "peers.html", **peers_shown(web))


@router.post("/remote/peers/{ae_title}/ping")
def ping(request: Request, web: Context, ae_title: str) -> Response:
    """Ping a peer; the page asks again until the job has ended."""
    job = submit(web, "echo", peer_named(web, ae_title), {"retries": 0})
    return render(request, "ping.html", job=job)


@router.get("/remote/ping/{job_id}")
def ping_news(request: Request, web: Context, job_id: str) -> Response:
    """Show how a ping goes."""
    return render(request, "ping.html", job=job_of(web, job_id))


def peer_from(form: dict[str, list[str]], prefix: str = "") -> AddedPeerIn | NamedDICOMwebIn:
    """A peer from the fields of a form.

    Args:
        prefix: of the fields' names.
    Raises:
        Problem: names the field that is wrong.
    """

    def one(name: str) -> str:
        return form.get(f"{prefix}{name}", [""])[0]

    if f"{prefix}url" in form:
        return _checked(NamedDICOMwebIn, {"ae_title": one("ae_title"), "url": one("url")})
    fields: dict[str, Any] = {name: one(name) for name in ("ae_title", "host", "port")}
    fields["tls"] = bool(one("tls"))
    if one("tls_verify"):
        fields["tls_verify"] = one("tls_verify")
    if one("calling"):
        fields["calling_ae_title"] = one("calling")
    if one("says_rights"):
        fields["may"] = form.get(f"{prefix}may", [])
    return _checked(AddedPeerIn, fields)


def _checked(kind: type[Given], fields: dict[str, Any]) -> Given:
    try:
        return kind.model_validate(fields)
    except ValidationError as error:
        first = error.errors()[0]
        field = str(first["loc"][0])
        message = first["msg"].removeprefix("Value error, ")
        raise Problem(422, f"{_LABELS.get(field, field)}: expected {message}") from None
