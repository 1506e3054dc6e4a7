"""The pages of the worklist: the list, and the form of an item."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Annotated, Any, Final
from urllib.parse import urlencode

from fastapi import APIRouter, Request, Response
from fastapi import Path as InPath
from fastapi.responses import HTMLResponse

from lfscp.archive.index.browsing.text_search import require_short_words
from lfscp.archive.workflow.worklist.item import STATUS, STEPS
from lfscp.archive.workflow.worklist.listing import ItemFilter, choices
from lfscp.archive.workflow.worklist.worklist import WorklistItem
from lfscp.dicom.models.element_tree import Tree
from lfscp.web.actions import cursors, worklist
from lfscp.web.context import Context, Web
from lfscp.web.pages import worklist_form as form_of_item
from lfscp.web.pages.answers import FormFields, render, say, toast
from lfscp.web.problems import Problem

router = APIRouter(include_in_schema=False, default_response_class=HTMLResponse)
PAGE_ROWS: Final = 60
Number = Annotated[int, InPath(ge=1, le=cursors.MAX)]
_ASKED: Final = ("q", "modality", "station", "status", "from", "to")
_KEYWORD: Final = re.compile(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")


@router.get("/worklist")
def items(request: Request, web: Context) -> Response:
    """Show the items from today on, or those that the address asks for."""
    asked = _asked(request)
    if not request.query_params:
        asked["from"] = _today()
    with web.index() as connection:
        found = choices(connection)
    return render(
        request, "worklist.html", choices=found, statuses=worklist.STATUSES, **_rows(web, asked)
    )


@router.get("/worklist/rows")
def item_rows(request: Request, web: Context) -> Response:
    """Show the rows of a search, as it is typed or scrolled."""
    after = request.query_params.get("after")
    return render(request, "worklist_rows.html", **_rows(web, _asked(request), after))


@router.get("/worklist/new")
def new_item(request: Request) -> Response:
    """Show an empty form."""
    return render(request, "worklist_item.html", **_form(None))


@router.get("/worklist/items/{item_id}")
def item(request: Request, web: Context, item_id: Number) -> Response:
    """Show one item, as a form if it may be changed."""
    return render(request, "worklist_item.html", **_form(worklist.item_of(web, item_id)))


@router.post("/worklist")
def add(web: Context, form: FormFields) -> Response:
    """Add an item, then show it."""
    try:
        item_id = worklist.add(web, form_of_item.changed(Tree(), form), "page")
    except Problem as problem:
        raise _in_words(problem) from None
    return Response(headers={"HX-Redirect": f"/worklist/items/{item_id}"})


@router.post("/worklist/items/{item_id}")
def save(request: Request, web: Context, item_id: Number, form: FormFields) -> Response:
    """Change an item, and show its form again."""
    before = worklist.item_of(web, item_id)
    if form.get("updated_at") != [str(before.updated_at)]:
        detail = "the item was changed by somebody else; load the page again, then change it"
        raise Problem(409, detail)
    try:
        after = worklist.replace(web, item_id, form_of_item.changed(before.dataset, form))
    except Problem as problem:
        raise _in_words(problem) from None
    return say(render(request, "worklist_form.html", **_form(after)), "The item was changed.")


@router.post("/worklist/items/{item_id}/remove")
def remove(web: Context, item_id: Number, then: str = "") -> Response:
    """Remove an item; its row goes, or the list is shown."""
    worklist.remove(web, item_id)
    if then == "list":
        return Response(headers={"HX-Redirect": "/worklist"})
    return toast("The item was removed from the worklist.", content="")


def _asked(request: Request) -> dict[str, str]:
    given = request.query_params
    asked = {name: given.get(name, "").strip() for name in _ASKED}
    try:
        require_short_words(" ".join(asked.values()))
    except ValueError as error:
        raise Problem(422, str(error)) from None
    return asked


def _rows(web: Web, asked: dict[str, str], after: str | None = None) -> dict[str, Any]:
    first, last = asked["from"].replace("-", ""), asked["to"].replace("-", "")
    statuses = (asked["status"],) if asked["status"] else ()
    wanted = ItemFilter(asked["q"], statuses, first, last, asked["station"], asked["modality"])
    found, following = worklist.page(web, wanted, after=after, limit=PAGE_ROWS)
    query = {name: value for name, value in asked.items() if value}
    return {
        "rows": [_row(each) for each in found],
        "next": f"/worklist/rows?{urlencode(query | {'after': following})}" if following else "",
        "is_first": not after,
        "asked": asked,
        "today": _today(),
        "is_search": bool(query),
    }


def _today() -> str:
    return datetime.now().astimezone().date().isoformat()


def _row(item: WorklistItem) -> dict[str, Any]:
    """What the list shows of an item."""
    fields = (*form_of_item.PATIENT, *form_of_item.ORDER)
    return {
        "id": item.id,
        "source": item.source.partition(":")[0],
        "is_read_only": item.is_of_file,
        "steps": [_step(step) for step in item.dataset.sequence(STEPS)],
        **{field.keyword: item.dataset.text(field.tag) for field in fields},
    }


def _step(step: Tree) -> dict[str, Any]:
    texts = {field.keyword: step.text(field.tag) for field in form_of_item.STEP}
    titles = step.texts(form_of_item.STEP[1].tag)
    return {**texts, "ScheduledStationAETitle": titles, "status": step.text(STATUS)}


def _form(item: WorklistItem | None) -> dict[str, Any]:
    """What the form shows: fields with names and values, those of each step by themselves."""
    dataset = item.dataset if item else Tree()

    def filled(tree: Tree, fields: tuple[form_of_item.Field, ...]) -> list[dict[str, Any]]:
        return [{"field": each, "value": form_of_item.shown(tree, each)} for each in fields]

    steps = dataset.sequence(STEPS) or [Tree()]
    return {
        "item": item,
        "row": _row(item) if item else None,
        "patient": filled(dataset, form_of_item.PATIENT),
        "order": filled(dataset, form_of_item.ORDER),
        "steps": [filled(step, form_of_item.STEP) for step in steps],
        "statuses": [step.text(STATUS) for step in steps],
    }


def _in_words(problem: Problem) -> Problem:
    """The same with the keyword at its beginning in words."""
    keyword, space, rest = problem.detail.partition(" ")
    words = " ".join(_KEYWORD.split(keyword))
    return Problem(problem.status, f"{words}{space}{rest}", errors=problem.errors)
