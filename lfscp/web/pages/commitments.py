"""The page of storage commitments: who asked, what became of it, and a button to report again."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any, Final
from urllib.parse import urlencode

from fastapi import APIRouter, Request, Response
from fastapi import Path as InPath
from fastapi.responses import HTMLResponse

from lfscp.archive.workflow.commitment.commitment import Commitment, State
from lfscp.archive.workflow.commitment.failure_reasons import words_here
from lfscp.web.actions import commitments, cursors
from lfscp.web.context import Context, Web
from lfscp.web.pages.answers import render, say

router = APIRouter(include_in_schema=False, default_response_class=HTMLResponse)
PAGE_ROWS: Final = 60
MAX_FAILURES: Final = 100  # UIDs of each reason that the page shows
STATES: Final = {
    State.RECEIVED: "checking",
    State.VERIFIED: "report waits",
    State.REPORTED: "reported",
    State.FAILED: "not reported",
}
Number = Annotated[int, InPath(ge=1, le=cursors.MAX)]


@router.get("/commitments")
def list_commitments(request: Request, web: Context) -> Response:
    """Show the newest commitments."""
    return render(request, "commitments.html", **_rows(request, web))


@router.get("/commitments/rows")
def commitment_rows(request: Request, web: Context) -> Response:
    """Show the rows of a state, as they are scrolled."""
    return render(request, "commitment_rows.html", **_rows(request, web))


@router.get("/commitments/{commitment_id}/failures")
def failures(request: Request, web: Context, commitment_id: Number) -> Response:
    """Show what the node did not commit to, by reason."""
    reasons: dict[str, list[str]] = {}
    for each in commitments.failures_of(web, commitment_id):
        words = words_here(each.reason)
        reasons.setdefault(words, []).append(each.sop_instance_uid)
    return render(request, "commitment_failures.html", reasons=reasons, most=MAX_FAILURES)


@router.post("/commitments/{commitment_id}/retry")
def retry(request: Request, web: Context, commitment_id: Number) -> Response:
    """Have a report sent now, and show the row."""
    rows = [_row(commitments.retry(web, commitment_id))]
    answer = render(request, "commitment_rows.html", **_shown(rows))
    return say(answer, "The node tries again now.")


def _rows(request: Request, web: Web) -> dict[str, Any]:
    given = request.query_params
    asked = given.get("state", "")
    states = (asked,) if asked else ()
    found, following = commitments.page(
        web, states=states, after=given.get("after"), limit=PAGE_ROWS
    )
    query = {"state": asked} if asked else {}
    path = f"/commitments/rows?{urlencode(query | {'after': following})}" if following else ""
    return _shown([_row(each) for each in found], path, asked, is_first=not given.get("after"))


def _shown(
    rows: list[dict[str, Any]], following: str = "", asked: str = "", *, is_first: bool = True
) -> dict[str, Any]:
    return {
        "rows": rows,
        "next": following,
        "asked": asked,
        "is_first": is_first,
        "states": STATES,
    }


def _row(found: Commitment) -> dict[str, Any]:
    return {**asdict(found), "is_due": commitments.is_due(found)}
