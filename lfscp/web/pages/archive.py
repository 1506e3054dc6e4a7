"""The list of studies: search, filters, order, and what is done with several studies at once."""

from __future__ import annotations

from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends, Form, Request, Response
from fastapi.responses import HTMLResponse
from sqlalchemy import Connection

from lfscp.archive.index.browsing import study_pages
from lfscp.archive.index.browsing.browse import Cursor
from lfscp.archive.index.browsing.study_pages import MAX_COUNT
from lfscp.web.actions import cursors, studies
from lfscp.web.actions.jobs import submit
from lfscp.web.actions.study_query import StudyQuery
from lfscp.web.context import Context, caller_of
from lfscp.web.pages.answers import peer_named, render, toast

router = APIRouter(include_in_schema=False, default_response_class=HTMLResponse)
PAGE_ROWS: Final = 60

Asked = Annotated[StudyQuery, Depends()]
Selected = Annotated[str, Form(max_length=20_000)]


@router.get("/")
def archive(request: Request, web: Context, asked: Asked) -> Response:
    """Show the search and its studies; without one the newest."""
    with web.index() as connection:
        found = _found(connection, asked)
        choices = {
            "modalities": study_pages.modalities(connection),
            "sources": study_pages.sources(connection),
            "labels": study_pages.labels(connection),
        }
    return render(
        request,
        "archive.html",
        counted=web.counts.lately(),
        peers=web.peers.all(),
        roots=web.settings.web.roots,
        **choices,
        **found,
    )


@router.get("/archive/rows")
def archive_rows(request: Request, web: Context, asked: Asked) -> Response:
    """Show what a search finds, as it is typed."""
    with web.index() as connection:
        found = _found(connection, asked)
    return render(request, "study_rows.html", **found)


def _found(connection: Connection, asked: StudyQuery) -> dict[str, Any]:
    search = asked.search(connection)
    page = asked.page_of(search, PAGE_ROWS)
    count = search.count()
    first = (asked.page - 1) * PAGE_ROWS + 1
    return {
        "asked": asked,
        "rows": page.rows,
        "selected": set(asked.select.split(".")),
        "count": f"{count:,}" if count <= MAX_COUNT else f"more than {MAX_COUNT:,}",
        "has_one": count == 1,
        "first": first,
        "last": first + len(page.rows) - 1,
        "next": _neighbour(asked, "after", page.next, asked.page + 1),
        "previous": _neighbour(asked, "before", page.previous, max(1, asked.page - 1)),
    }


def _neighbour(asked: StudyQuery, direction: str, cursor: Cursor | None, page: int) -> str:
    """The address of another page of the list; empty if there is none."""
    if cursor is None:
        return ""
    place: dict[str, object] = {direction: cursors.to_text(cursor), "page": page}
    return asked.address(**place)


@router.post("/archive/send")
def send(
    web: Context,
    select: Selected = "",
    peer: Annotated[str, Form()] = "",
    commit: Annotated[str, Form()] = "",
) -> Response:
    """Send the selected studies to a peer, and ask it for commitment if `commit` is not empty."""
    uids = _uids(studies.selected(web, select))
    parameters = {"studies": uids, "commit": bool(commit)}
    job = submit(web, "send", peer_named(web, peer), parameters)
    return toast(f"Sending {_said(uids)} to {peer}.", f"/jobs#job-{job.id}")


@router.post("/archive/export")
def export(
    request: Request, web: Context, select: Selected = "", folder: Annotated[str, Form()] = ""
) -> Response:
    """Write the selected studies as files into a folder of the node."""
    uids = _uids(studies.selected(web, select))
    caller = caller_of(request).name
    job = submit(web, "export", [], {"studies": uids, "folder": folder.strip(), "user": caller})
    return toast(f"Exporting {_said(uids)} to {folder.strip()}.", f"/jobs#job-{job.id}")


@router.post("/archive/label")
def label(web: Context, select: Selected = "", label: Annotated[str, Form()] = "") -> Response:
    """Give the selected studies a label."""
    uids = _uids(studies.selected(web, select))
    given = studies.set_label(web, uids, label, on=True)
    return toast(f"{_said(uids)} labelled {given}.")


@router.post("/archive/unlabel")
def unlabel(web: Context, select: Selected = "", label: Annotated[str, Form()] = "") -> Response:
    """Take a label from the selected studies."""
    uids = _uids(studies.selected(web, select))
    taken = studies.set_label(web, uids, label, on=False)
    return toast(f"The label {taken} was taken from {_said(uids)}.")


@router.post("/archive/protect")
def protect(web: Context, select: Selected = "") -> Response:
    """Protect the selected studies from being deleted."""
    rows = studies.selected(web, select)
    for row in rows:
        studies.set_protected(web, row["study_instance_uid"], row["id"], on=True)
    return toast(f"{_said(rows)} protected.")


@router.post("/archive/unprotect")
def unprotect(web: Context, select: Selected = "") -> Response:
    """End the protection of the selected studies."""
    rows = studies.selected(web, select)
    for row in rows:
        studies.set_protected(web, row["study_instance_uid"], row["id"], on=False)
    return toast(f"{_said(rows)} no longer protected.")


@router.post("/archive/delete")
def delete(web: Context, select: Selected = "") -> Response:
    """Delete the selected studies, if none of them is protected."""
    rows = studies.selected(web, select)
    deleted = studies.delete_selected(web, rows)
    objects = "1 object" if deleted == 1 else f"{deleted:,} objects"
    return toast(f"{_said(rows)} deleted with {objects}.")


def _uids(rows: list[dict[str, Any]]) -> list[str]:
    return list(dict.fromkeys(row["study_instance_uid"] for row in rows))


def _said(rows: list[Any]) -> str:
    return "1 study" if len(rows) == 1 else f"{len(rows)} studies"
