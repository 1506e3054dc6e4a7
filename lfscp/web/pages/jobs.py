"""The page of the jobs: the list, live, and the buttons of each job."""

from __future__ import annotations

from typing import Final, Literal

from fastapi import APIRouter, Request, Response
from fastapi.responses import HTMLResponse

from lfscp.web.actions.jobs import act
from lfscp.web.context import Context
from lfscp.web.pages.answers import render, toast

router = APIRouter(include_in_schema=False, default_response_class=HTMLResponse)
JOBS_SHOWN: Final = 200


@router.get("/jobs")
def jobs(request: Request, web: Context) -> Response:
    """Show the jobs."""
    return render(request, "jobs.html", jobs=web.jobs.jobs(limit=JOBS_SHOWN))


@router.get("/jobs/rows")
def job_rows(request: Request, web: Context) -> Response:
    """Show the rows of the list alone."""
    return render(request, "job_rows.html", jobs=web.jobs.jobs(limit=JOBS_SHOWN))


@router.post("/jobs/{job_id}/{wish}")
def job_wish(
    request: Request,
    web: Context,
    job_id: str,
    wish: Literal["cancel", "pause", "resume", "retry", "forget"],
) -> Response:
    """Do what a button of a job says, and show its row."""
    job = act(web, job_id, wish)
    if wish == "forget":
        return toast("The job was removed from the list.", content="")
    return render(request, "job_rows.html", jobs=[job])
