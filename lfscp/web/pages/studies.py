"""The pages of the archive: search, study, viewer, and the elements of an object."""

from __future__ import annotations

import json
from http import HTTPStatus
from typing import Annotated, Any, Final
from urllib.parse import urlencode

from fastapi import APIRouter, Form, Query, Request, Response
from fastapi.responses import HTMLResponse
from pydantic import ValidationError

from lfscp.archive.index import browse
from lfscp.deidentification.options import Option
from lfscp.dicom.values.attributes import Level
from lfscp.web.actions import cursors, studies
from lfscp.web.actions.deidentified import DeidentifyIn, deidentified_zip
from lfscp.web.actions.jobs import submit
from lfscp.web.context import Context, PictureTurn, Web
from lfscp.web.imaging.errors import NoPictureError
from lfscp.web.pages.answers import peer_named, render, toast
from lfscp.web.pages.conflicts import conflicts
from lfscp.web.problems import Problem
from lfscp.web.rendering.responses import no_picture
from lfscp.web.security.access import CONTENT_SECURITY_POLICY

router = APIRouter(include_in_schema=False, default_response_class=HTMLResponse)
PAGE_ROWS: Final = 60
PAGE_ELEMENTS: Final = 1000
_PLAYS_VIDEOS: Final = f"{CONTENT_SECURITY_POLICY}; media-src 'self'"


@router.get("/")
def archive(request: Request, web: Context) -> Response:
    """Show the search and the newest studies."""
    with web.index() as connection:
        modalities = browse.modalities(connection)
    return render(
        request,
        "archive.html",
        modalities=modalities,
        statistics=web.counts.now(),
        **_rows(request, web),
    )


@router.get("/archive/rows")
def archive_rows(request: Request, web: Context) -> Response:
    """Show the rows of a search, as it is typed or scrolled."""
    return render(request, "study_rows.html", **_rows(request, web))


def _rows(request: Request, web: Web) -> dict[str, Any]:
    given = request.query_params
    asked = {name: given.get(name, "").strip() for name in ("q", "modality", "from", "to")}
    try:
        browse.require_short_words(" ".join(asked.values()))
    except ValueError as error:
        raise Problem(422, str(error)) from None
    first, last = asked["from"].replace("-", ""), asked["to"].replace("-", "")
    wanted = browse.StudyFilter(asked["q"], asked["modality"], first, last)
    after = cursors.from_text(given.get("after"), studies.STUDY_CURSOR)
    with web.index() as connection:
        page = browse.studies(connection, wanted, after=after, limit=PAGE_ROWS)
    following = cursors.to_text(page.next)
    query = {name: value for name, value in asked.items() if value}
    return {
        "rows": page.rows,
        "next": f"/archive/rows?{urlencode(query | {'after': following})}" if following else "",
        "is_first": after is None,
        "asked": asked,
        "is_search": bool(query),
    }


@router.get("/studies/{study_uid}")
def study(request: Request, web: Context, study_uid: str, key: studies.Key = None) -> Response:
    """Show one study: its series with thumbnails, and what can be done with it."""
    row = studies.study_row(web, study_uid, key)
    with web.index() as connection:
        series = browse.series_of(connection, row["id"])
        found = conflicts(connection, row)
    web.views.note(study_uid, "page", row["id"])
    return render(
        request,
        "study.html",
        study=row,
        series=series,
        peers=web.peers.all(),
        conflicts=found,
        deidentification_options=list(Option),
    )


@router.post("/studies/{study_uid}/deidentify")
def deidentify_study(
    web: Context,
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
    answer = deidentified_zip(web, study_uid, wanted)
    web.views.note(study_uid, "de-identified ZIP")
    return answer


@router.post("/studies/{study_uid}/send")
def send_study(
    web: Context,
    study_uid: str,
    peer: Annotated[str, Form()] = "",
    commit: Annotated[str, Form()] = "",
) -> Response:
    """Send a study to a peer, and ask it for storage commitment if `commit` is not empty."""
    parameters = {"studies": [study_uid], "commit": bool(commit)}
    job = submit(web, "send", peer_named(web, peer), parameters)
    return toast(f"Sending the study to {peer}.", f"/jobs#job-{job.id}")


@router.post("/studies/{study_uid}/delete")
def delete_study(web: Context, study_uid: str, key: studies.Key = None) -> Response:
    """Delete a study, then go back to the archive."""
    studies.delete(web, Level.STUDY, study_uid, key)
    return Response(headers={"HX-Redirect": "/"})


@router.post("/studies/{study_uid}/protect")
def protect_study(web: Context, study_uid: str, key: studies.Key = None) -> Response:
    """Protect a study from being deleted, and show it again."""
    studies.set_protected(web, study_uid, key, on=True)
    return Response(headers={"HX-Refresh": "true"})


@router.post("/studies/{study_uid}/unprotect")
def unprotect_study(web: Context, study_uid: str, key: studies.Key = None) -> Response:
    """End the protection of a study, and show it again."""
    studies.set_protected(web, study_uid, key, on=False)
    return Response(headers={"HX-Refresh": "true"})


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
    row = studies.instance_row(web, instance_uid)
    file = studies.file_of(web, row)
    try:
        found, following = web.renderer.elements(file, instance_uid, first, PAGE_ELEMENTS)
    except NoPictureError as error:
        raise no_picture(error, HTTPStatus.UNPROCESSABLE_ENTITY) from None
    web.views.note(row["study_instance_uid"], "elements", row["study_key"])
    return render(
        request,
        "instance.html",
        instance=row,
        elements=json.loads(found.read()),
        first=first,
        next=following,
    )
