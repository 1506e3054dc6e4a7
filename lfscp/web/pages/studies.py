"""The pages of one study: its series, the viewer, and the elements of an object."""

from __future__ import annotations

import json
from http import HTTPStatus
from typing import Annotated, Final
from urllib.parse import urlencode

from fastapi import APIRouter, Form, Query, Request, Response
from fastapi.responses import HTMLResponse
from pydantic import ValidationError

from lfscp.archive.index.browsing import browse, study_pages
from lfscp.deidentification.options import Option
from lfscp.web.actions import cursors, studies
from lfscp.web.actions.deidentified import DeidentifyIn, deidentified_zip
from lfscp.web.actions.routes import outcomes_of
from lfscp.web.client_watch import Watch
from lfscp.web.context import Context, PictureTurn
from lfscp.web.imaging.errors import NoPictureError
from lfscp.web.pages.answers import render
from lfscp.web.pages.conflicts import conflicts
from lfscp.web.problems import Problem
from lfscp.web.rendering.responses import no_picture
from lfscp.web.security.access import CONTENT_SECURITY_POLICY

router = APIRouter(include_in_schema=False, default_response_class=HTMLResponse)
PAGE_ROWS: Final = 60
PAGE_ELEMENTS: Final = 1000
_PLAYS_VIDEOS: Final = f"{CONTENT_SECURITY_POLICY}; media-src 'self'"


@router.get("/studies/{study_uid}")
def study(request: Request, web: Context, study_uid: str, key: studies.Key = None) -> Response:
    """Show one study: its series with thumbnails, and what can be done with it."""
    row = studies.study_row(web, study_uid, key)
    with web.index() as connection:
        series = browse.series_of(connection, row["id"])
        found = conflicts(connection, row)
        labels = study_pages.labels(connection)
    web.views.note(study_uid, "page", row["id"])
    return render(
        request,
        "study.html",
        study=row,
        series=series,
        peers=web.peers.all(),
        conflicts=found,
        deidentification_options=list(Option),
        labels=labels,
        may_have_gone=bool(web.settings.route or outcomes_of(web, study_uid)),
    )


@router.post("/studies/{study_uid}/deidentify")
def deidentify_study(
    web: Context,
    watch: Watch,
    study_uid: str,
    option: Annotated[list[str] | None, Form()] = None,
    key: Annotated[str, Form()] = "",
) -> Response:
    """Give a study as a ZIP without the people."""
    studies.study_row(web, study_uid)
    try:
        wanted = DeidentifyIn(options=option or [], key=key or None)
    except ValidationError:
        raise Problem(
            HTTPStatus.UNPROCESSABLE_ENTITY, "too many options, or too long a key"
        ) from None
    answer = deidentified_zip(web, study_uid, wanted, watch.look)
    web.views.note(study_uid, "de-identified ZIP")
    return answer


@router.get("/viewer/{series_uid}")
def viewer(request: Request, web: Context, series_uid: str, key: studies.Key = None) -> Response:
    """Show the viewer of one series, with the others of its study beside it."""
    row = studies.series_row(web, series_uid, key)
    parent = studies.study_row(web, row["study_instance_uid"], row["study_fk"])
    with web.index() as connection:
        others = browse.series_of(connection, row["study_fk"])
    answer = render(request, "viewer.html", series=row, study=parent, others=others)
    answer.headers["Content-Security-Policy"] = _PLAYS_VIDEOS
    return answer


@router.get("/series/{series_uid}/instances")
def instances(request: Request, web: Context, series_uid: str, key: studies.Key = None) -> Response:
    """Show the instances of a series as rows, a page at a time."""
    row = studies.series_row(web, series_uid, key)
    after = cursors.from_text(request.query_params.get("after"), studies.INSTANCE_CURSOR)
    with web.index() as connection:
        page = browse.instances_of(connection, row["id"], after=after, limit=PAGE_ROWS)
    following = cursors.to_text(page.next)
    query = urlencode({"key": row["id"], "after": following or ""})
    path = f"/series/{series_uid}/instances?{query}" if following else ""
    return render(request, "instance_rows.html", rows=page.rows, next=path)


@router.get("/instances/{instance_uid}", dependencies=[PictureTurn])
def instance(
    request: Request, web: Context, instance_uid: str, first: Annotated[int, Query(ge=0)] = 0
) -> Response:
    """Show the elements of one instance, some at a time."""
    try:
        row, (found, following) = studies.of_file(
            web,
            instance_uid,
            "elements",
            lambda file: web.renderer.elements(file, instance_uid, first, PAGE_ELEMENTS),
        )
    except NoPictureError as error:
        raise no_picture(error, HTTPStatus.UNPROCESSABLE_ENTITY) from None
    return render(
        request,
        "instance.html",
        instance=row,
        is_protected=studies.study_row(web, row["study_instance_uid"], row["study_key"])[
            "is_protected"
        ],
        elements=json.loads(found.read()),
        first=first,
        next=following,
    )
