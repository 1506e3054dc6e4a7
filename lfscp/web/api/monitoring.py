"""Answers /metrics, /healthz and /readyz, for monitoring."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse

from lfscp.web.context import Context
from lfscp.web.problems import MEDIA_TYPE, Problem, document

router = APIRouter(tags=["monitoring"])


@router.get("/metrics", response_class=Response)
def metrics(web: Context, request: Request) -> Response:
    """The node's counters and gauges, in Prometheus' format."""
    content, content_type = web.exposition.render(request.headers.get("accept", ""))
    return Response(content, media_type=content_type)


@router.get("/healthz")
async def healthz() -> dict[str, str]:
    """The process answers; nothing else is checked."""
    return {"status": "ok"}


@router.get("/readyz", responses={503: {"description": "A check failed; `detail` names it."}})
def readyz(web: Context, request: Request) -> JSONResponse:
    """Whether the node accepts associations and can store objects."""
    checks = web.readiness.checks()
    answers: dict[str, Any] = {each.name: each.problem or "ok" for each in checks}
    failed = [f"{each.name}: {each.problem}" for each in checks if each.problem]
    if not failed:
        return JSONResponse({"status": "ready", "checks": answers})
    problem = Problem(HTTPStatus.SERVICE_UNAVAILABLE, "; ".join(failed))
    return JSONResponse(
        document(problem, request.url.path) | {"checks": answers},
        status_code=problem.status,
        media_type=MEDIA_TYPE,
    )
