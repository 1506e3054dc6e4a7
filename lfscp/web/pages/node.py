"""The pages of the node: its health and its pool, live; its log, audit trail and settings."""

from __future__ import annotations

import itertools
import time
from typing import Annotated, Final, Literal

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import HTMLResponse

from lfscp.observe import audit, metrics
from lfscp.observe.audit.reading import AuditReader
from lfscp.observe.counters import Counter
from lfscp.plugins.states import plugin_states
from lfscp.web.actions.health import health_of, recent_log
from lfscp.web.actions.node_settings import settings_in_force
from lfscp.web.context import Context
from lfscp.web.pages.answers import render
from lfscp.web.problems import Problem

router = APIRouter(include_in_schema=False, default_response_class=HTMLResponse)
LINES_SHOWN: Final = 200
Filter = Annotated[str, Query(max_length=200)]


@router.get("/node")
def node(request: Request, web: Context) -> Response:
    """Show the node."""
    state = web.node_state()
    sums = metrics.BOARD.sums()
    return render(
        request,
        "node.html",
        state=state,
        uptime_s=time.time() - state.started_at,
        counted=web.counts.lately(),
        accepted=_total(metrics.ACCEPTED, sums),
        rejected=_total(metrics.REJECTED, sums),
        health=health_of(web),
        retention=web.settings.retention,
        plugins=plugin_states(web.plugins.loaded) if web.plugins is not None else [],
    )


def _total(counter: Counter, sums: list[float]) -> int:
    return int(sum(number for _, number in counter.samples(sums)))


@router.get("/node/health")
def health(request: Request, web: Context) -> Response:
    """Show the health alone, as it is now."""
    found = health_of(web)
    return render(request, "node_health.html", health=found, retention=web.settings.retention)


@router.get("/node/log")
def log(
    request: Request, web: Context, level: Literal["", "warning", "error"] = "", q: Filter = ""
) -> Response:
    """Show the newest warnings and errors."""
    kept = web.settings.logging.kept_mb > 0
    wanted = (
        line
        for line in recent_log(web).lines()
        if (not level or (line.level == level or (level == "error" and line.level == "critical")))
        and (not q or line.has(q))
    )
    try:
        lines = list(itertools.islice(wanted, LINES_SHOWN + 1)) if kept else []
    except OSError as error:
        raise Problem(503, f"the log cannot be read: {error.strerror}") from None
    return render(
        request,
        "node_log.html",
        lines=lines[:LINES_SHOWN],
        has_more=len(lines) > LINES_SHOWN,
        asked={"level": level, "q": q},
        is_kept=kept,
    )


@router.get("/node/audit")
def audit_trail(
    request: Request,
    web: Context,
    outcome: Literal["", "success", "failure"] = "",
    q: Filter = "",
) -> Response:
    """Show the newest records of the audit trail; who looks is recorded there too."""
    trail = web.settings.audit
    reader = AuditReader(trail.path(web.settings.data_dir))
    wanted = (
        record
        for record in reader.records()
        if (not outcome or record.outcome == outcome) and (not q or record.has(q))
    )
    try:
        records = list(itertools.islice(wanted, LINES_SHOWN + 1)) if trail.enabled else []
    except OSError as error:
        raise Problem(503, f"the audit trail cannot be read: {error.strerror}") from None
    audit.log_used(reader.path.as_uri())
    return render(
        request,
        "node_audit.html",
        records=records[:LINES_SHOWN],
        has_more=len(records) > LINES_SHOWN,
        is_cut=reader.is_cut,
        asked={"outcome": outcome, "q": q},
        is_on=trail.enabled,
    )


@router.get("/node/settings")
def settings(request: Request, web: Context, q: Filter = "", changed: bool = False) -> Response:
    """Show the settings in force, each with its source."""
    found = [
        each
        for each in settings_in_force(web.settings)
        if not (changed and each.is_default)
        and q.lower() in f"{each.name} {each.value} {each.source} {each.help}".lower()
    ]
    return render(request, "node_settings.html", found=found, asked={"q": q, "changed": changed})
