"""Answers /api/node, /api/log, /api/settings, /api/plugins and /api/folders."""

from __future__ import annotations

import itertools
from dataclasses import asdict
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query

from lfscp.plugins.states import plugin_states
from lfscp.web.actions.folders import listing
from lfscp.web.actions.health import recent_log
from lfscp.web.actions.node_settings import settings_in_force
from lfscp.web.context import Context

router = APIRouter()


@router.get("/api/node", tags=["node"])
def node(web: Context) -> dict[str, Any]:
    """The node now: its pool, its limits, and the open associations."""
    return asdict(web.node_state())


@router.get("/api/log", tags=["node"])
def log(
    web: Context,
    level: Literal["warning", "error", "critical"] | None = None,
    q: Annotated[str, Query(max_length=200, description="A text in the line.")] = "",
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
) -> list[dict[str, Any]]:
    """The newest warnings and errors of the node's log, the newest first."""
    wanted = (
        asdict(line)
        for line in recent_log(web).lines()
        if level in (None, line.level) and line.has(q)
    )
    return list(itertools.islice(wanted, limit))


@router.get("/api/settings", tags=["node"])
def settings(web: Context) -> list[dict[str, Any]]:
    """The settings in force, each with its source; secrets are hidden."""
    return [asdict(each) for each in settings_in_force(web.settings)]


@router.get("/api/plugins", tags=["node"])
def plugins(web: Context) -> list[dict[str, Any]]:
    """The plug-ins in use, with what they have done since the node started."""
    loaded = web.plugins.loaded if web.plugins is not None else ()
    return [asdict(each) for each in plugin_states(loaded)]


@router.get("/api/folders", tags=["node"])
def folders(web: Context, path: str = "") -> dict[str, Any]:
    """List a folder below web.roots; without `path`, the roots."""
    return asdict(listing(web.settings.web.roots, path))
