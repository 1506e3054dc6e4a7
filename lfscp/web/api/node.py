"""Answers /api/node and /api/folders: the node now, and its folders."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from fastapi import APIRouter

from lfscp.web.actions.folders import listing
from lfscp.web.context import Context

router = APIRouter()


@router.get("/api/node", tags=["node"])
def node(web: Context) -> dict[str, Any]:
    """The node now: its pool, its limits, and the open associations."""
    return asdict(web.node_state())


@router.get("/api/folders", tags=["node"])
def folders(web: Context, path: str = "") -> dict[str, Any]:
    """List a folder below web.roots; without `path`, the roots."""
    return asdict(listing(web.settings.web.roots, path))
