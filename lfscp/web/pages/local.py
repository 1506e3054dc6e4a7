"""The pages of the local archive: search, study, viewer, elements, upload, node, login."""

from __future__ import annotations

import json
import time
from http import HTTPStatus
from typing import Annotated, Any, Final
from urllib.parse import quote, urlencode

from fastapi import APIRouter, Form, Query, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse

from lfscp.archive.index import browse
from lfscp.dicom.attributes import Level
from lfscp.web import folders
from lfscp.web.actions import cursors, studies
from lfscp.web.context import Context, Web
from lfscp.web.imaging.errors import NoPictureError
from lfscp.web.pages.answers import render
from lfscp.web.pages.conflicts import conflicts
from lfscp.web.problems import Problem, wants_page
from lfscp.web.rendering.picture_answers import no_picture
from lfscp.web.security.access import SESSION_COOKIE, SESSION_S

router = APIRouter(include_in_schema=False, default_response_class=HTMLResponse)
PAGE_ROWS: Final = 60
PAGE_ELEMENTS: Final = 1000

Text = Annotated[str, Form()]


# Archive


@router.get("/")
def archive(request: Request, web: Context) -> Response:
    """The local archive: search and the newest studies."""
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
    """The rows of the search, as they are typed for and scrolled to."""
    return render(request, "study_rows.html", **_rows(request, web))


def _rows(request: Request, web: Web) -> dict[str, Any]:
    given = request.query_params
    asked = {name: given.get(name, "").strip() for name in ("q", "modality", "from", "to")}
    try:
        browse.require_short_words(" ".join(asked.values()))
    except ValueError as error:
        raise Problem(422, str(error)) from None
    wanted = browse.StudyFilter(
        asked["q"],
        asked["modality"],
        asked["from"].replace("-", ""),
        asked["to"].replace("-", ""),
    )
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
    """One study: its series with thumbnails, and what can be done with it."""
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
    )


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
    """Protect a study no longer, and show it again."""
    studies.set_protected(web, study_uid, key, on=False)
    return Response(headers={"HX-Refresh": "true"})


@router.get("/viewer/{series_uid}")
def viewer(request: Request, web: Context, series_uid: str, key: studies.Key = None) -> Response:
    """The viewer of one series, with the others of its study beside it."""
    row = studies.series_row(web, series_uid, key)
    parent = studies.study_row(web, row["study_instance_uid"], row["study_fk"])
    with web.index() as connection:
        others = browse.series_of(connection, row["study_fk"])
    return render(request, "viewer.html", series=row, study=parent, others=others)


@router.get("/instances/{instance_uid}")
def instance(
    request: Request,
    web: Context,
    instance_uid: str,
    first: Annotated[int, Query(ge=0)] = 0,
) -> Response:
    """The elements of one instance, some at a time."""
    row = studies.instance_row(web, instance_uid)
    try:
        found, following = web.renderer.elements(
            studies.file_of(web, row), instance_uid, first, PAGE_ELEMENTS
        )
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


@router.get("/series/{series_uid}/instances")
def instances(request: Request, web: Context, series_uid: str, key: studies.Key = None) -> Response:
    """The instances of a series as rows, a page at a time."""
    row = studies.series_row(web, series_uid, key)
    after = cursors.from_text(request.query_params.get("after"), studies.INSTANCE_CURSOR)
    with web.index() as connection:
        page = browse.instances_of(connection, row["id"], after=after, limit=PAGE_ROWS)
    following = cursors.to_text(page.next)
    query = urlencode({"key": row["id"], "after": following or ""})
    path = f"/series/{series_uid}/instances?{query}" if following else ""
    return render(request, "instance_rows.html", rows=page.rows, next=path)


# Upload and folders


@router.get("/upload")
def upload(request: Request, web: Context) -> Response:
    """Drop files here; or send those that lie on the node."""
    return render(request, "upload.html", peers=web.peers.all(), roots=web.settings.web.roots)


@router.get("/folders")
def folder(request: Request, web: Context, path: str = "") -> Response:
    """What is in a folder of the node."""
    try:
        found = folders.listing(web.settings.web.roots, path)
    except folders.OutsideRootsError as error:
        raise Problem(403, str(error)) from None
    return render(request, "folder.html", listing=found)


# Node


@router.get("/node")
def node(request: Request, web: Context) -> Response:
    """The pool, live."""
    state = web.node_state()
    return render(
        request,
        "node.html",
        state=state,
        uptime_s=time.time() - state.started_at,
        statistics=web.counts.now(),
        data_dir=web.settings.data_dir,
        clock_doubt=web.archive.clock_doubt(),
    )


# Login


@router.get("/login")
def login(request: Request, web: Context, next: str = "/") -> Response:  # noqa: A002
    """Ask for name and password."""
    if not web.access.needs_login:
        return RedirectResponse("/", HTTPStatus.SEE_OTHER)
    return render(request, "login.html", next=_local(next), failed="")


@router.post("/login")
def log_in(
    request: Request,
    web: Context,
    name: Text = "",
    password: Text = "",
    next: Annotated[str, Form()] = "/",  # noqa: A002
) -> Response:
    """Check name and password, then go where the person wanted to go."""
    address = request.client.host if request.client else ""
    try:
        session = web.access.log_in(name, password, address)
    except Problem as problem:
        if not wants_page(request):
            raise
        response = render(request, "login.html", next=_local(next), failed=problem.detail)
        response.status_code = problem.status
        response.headers.update(problem.headers)
        return response
    response = RedirectResponse(_local(next), HTTPStatus.SEE_OTHER)
    response.set_cookie(
        SESSION_COOKIE,
        session,
        max_age=SESSION_S,
        httponly=True,
        samesite="strict",
        # Behind a proxy that ends TLS only the browser knows.
        secure=request.headers.get("origin", str(request.url)).startswith("https:"),
    )
    return response


@router.post("/logout")
def log_out(request: Request, web: Context) -> Response:
    """End the session."""
    address = request.client.host if request.client else ""
    web.access.log_out(request.cookies.get(SESSION_COOKIE, ""), address)
    response = Response(headers={"HX-Redirect": "/login"})
    response.delete_cookie(SESSION_COOKIE)
    return response


def _local(target: str) -> str:
    """A path of this page, so that a login leads nowhere else."""
    if not target.startswith("/") or target.startswith(("//", "/\\")) or "\\" in target:
        return "/"
    return quote(target, safe="/?=&%-._~:")
