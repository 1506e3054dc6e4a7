"""The page of the node: its pool, live, and the figures of its archive."""

from __future__ import annotations

import time

from fastapi import APIRouter, Request, Response
from fastapi.responses import HTMLResponse

from lfscp.web.context import Context
from lfscp.web.pages.answers import render

router = APIRouter(include_in_schema=False, default_response_class=HTMLResponse)


@router.get("/node")
def node(request: Request, web: Context) -> Response:
    """Show the node."""
    state = web.node_state()
    return render(
        request,
        "node.html",
        state=state,
        uptime_s=time.time() - state.started_at,
        statistics=web.counts.now(),
        clock_doubt=web.archive.clock_doubt(),
    )
