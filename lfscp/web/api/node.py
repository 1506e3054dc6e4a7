"""/api/node, /api/folders: the node itself."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from fastapi import APIRouter

from lfscp.web import folders as below
from lfscp.web.context import Context
from lfscp.web.problems import Problem

router = APIRouter()


@router.get("/api/node", tags=["node"])
def node(web: Context) -> dict[str, Any]:
    """The pool, its limits, and who is connected."""
    return asdict(web.node_state())


@router.get("/api/folders", tags=["node"])
def folders(web: Context, path: str = "") -> dict[str, Any]:
    """What is in a folder below web.roots; without a path the roots themselves."""
    try:
        return asdict(below.listing(web.settings.web.roots, path))
    except below.OutsideRootsError as error:
        raise Problem(403, str(error)) from None
