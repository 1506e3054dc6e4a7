"""The page of the jobs: the list, live, and the buttons of each job."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal
from urllib.parse import urlencode

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import HTMLResponse

from lfscp.web.actions import cursors
from lfscp.web.actions.jobs import act
from lfscp.web.context import Context, Web, caller_of
from lfscp.web.pages.answers import render, toast
from lfscp.web.pages.job_subjects import subjects_of

router = APIRouter(include_in_schema=False, default_response_class=HTMLResponse)
JOBS_SHOWN: Final = 100
# What the list can be limited to, in the words of the page.
STATES: Final = {
    "open": ("sleeping", "active", "paused"),
    "failed": ("failed",),
    "done": ("done",),
    "cancelled": ("cancelled",),
}
Offset = Annotated[int, Query(ge=0, le=cursors.MAX)]
StateFilter = Literal["", "open", "failed", "done", "cancelled"]


@router.get("/jobs")
def jobs(request: Request, web: Context, state: StateFilter = "", offset: Offset = 0) -> Response:
    """Show the jobs."""
    return render(request, "jobs.html", states=STATES, **_list(web, state, offset))


@router.get("/jobs/rows")
def job_rows(
    request: Request, web: Context, state: StateFilter = "", offset: Offset = 0
) -> Response:
    """Show the rows of the list alone."""
    return render(request, "job_rows.html", **_list(web, state, offset))


def _list(web: Web, state: str, offset: int) -> dict[str, Any]:
    """A page of the list, and where the pages before and after it are."""
    found = web.jobs.jobs(STATES.get(state), JOBS_SHOWN + 1, offset)
    shown = found[:JOBS_SHOWN]
    older = offset + JOBS_SHOWN if len(found) > JOBS_SHOWN else 0
    return {
        "jobs": shown,
        "subjects": subjects_of(web, shown),
        "state": state,
        "query": _query(state, offset),
        "newer": f"/jobs{_query(state, max(0, offset - JOBS_SHOWN))}" if offset else "",
        "older": f"/jobs{_query(state, older)}" if older else "",
    }


def _query(state: str, offset: int) -> str:
    given = {"state": state, "offset": offset}
    wanted = urlencode({name: value for name, value in given.items() if value})
    return f"?{wanted}" if wanted else ""


@router.post("/jobs/{job_id}/{wish}")
def job_wish(
    request: Request,
    web: Context,
    job_id: str,
    wish: Literal["cancel", "pause", "resume", "retry", "forget"],
) -> Response:
    """Do what a button of a job says, and show its row."""
    job = act(web, job_id, wish, caller_of(request).role)
    if wish == "forget":
        return toast("The job was removed from the list.", content="")
    return render(
        request, "job_rows.html", jobs=[job], subjects=subjects_of(web, [job]), state="", query=""
    )
