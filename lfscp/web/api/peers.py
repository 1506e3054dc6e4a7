"""Answers /api/peers: the application entities and DICOMweb servers that jobs can ask."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

from fastapi import APIRouter
from fastapi import Path as InPath

from lfscp.config.checks import AETitle
from lfscp.web.actions.peers import drop, put
from lfscp.web.api.models import AddedPeer, PeerOut
from lfscp.web.context import Context
from lfscp.web.problems import not_found

router = APIRouter(prefix="/api/peers", tags=["peers"])
Title = Annotated[AETitle, InPath(description="AE title.")]


@router.get("")
def peers(web: Context) -> list[PeerOut]:
    """All known peers."""
    return [PeerOut.model_validate(asdict(peer)) for peer in web.peers.all()]


@router.post("", status_code=201)
def add(web: Context, asked: AddedPeer) -> PeerOut:
    """Add a peer, or change an added one."""
    return PeerOut.model_validate(asdict(put(web, asked)))


@router.get("/{ae_title}")
def peer(web: Context, ae_title: Title) -> PeerOut:
    """One peer."""
    known = web.peers.get(ae_title)
    if known is None:
        raise not_found("peer", ae_title)
    return PeerOut.model_validate(asdict(known))


@router.delete("/{ae_title}", status_code=204)
def remove(web: Context, ae_title: Title) -> None:
    """Remove an added peer."""
    drop(web, ae_title)
