"""The pages of performed procedure steps: the list, and one step with what has not arrived."""

from __future__ import annotations

from typing import Any, Final
from urllib.parse import urlencode

from fastapi import APIRouter, Request, Response
from fastapi.responses import HTMLResponse
from pydicom.datadict import tag_for_keyword

from lfscp.archive.index.browsing.text_search import require_short_words
from lfscp.archive.workflow.procedure_steps.rows import ProcedureStep, study_uid_of
from lfscp.archive.workflow.procedure_steps.table import SCHEDULED_STEPS
from lfscp.dicom.models.element_tree import Tree
from lfscp.web.actions import procedure_steps
from lfscp.web.context import Context, Web
from lfscp.web.pages.answers import render
from lfscp.web.problems import Problem

router = APIRouter(include_in_schema=False, default_response_class=HTMLResponse)
PAGE_ROWS: Final = 40
MAX_MISSING: Final = 200  # UIDs that the page of a step shows
_TEXTS: Final = {
    "patient_name": "PatientName",
    "patient_id": "PatientID",
    "born": "PatientBirthDate",
    "sex": "PatientSex",
    "modality": "Modality",
    "station": "PerformedStationAETitle",
    "start_date": "PerformedProcedureStepStartDate",
    "start_time": "PerformedProcedureStepStartTime",
    "end_date": "PerformedProcedureStepEndDate",
    "end_time": "PerformedProcedureStepEndTime",
    "description": "PerformedProcedureStepDescription",
}


@router.get("/procedure-steps")
def steps(request: Request, web: Context) -> Response:
    """Show the newest steps."""
    values = _rows(request, web)
    return render(request, "procedure_steps.html", statuses=procedure_steps.STATUSES, **values)


@router.get("/procedure-steps/rows")
def step_rows(request: Request, web: Context) -> Response:
    """Show the rows of a search, as it is typed or scrolled."""
    return render(request, "procedure_step_rows.html", **_rows(request, web))


@router.get("/procedure-steps/{sop_instance_uid}")
def step(request: Request, web: Context, sop_instance_uid: str) -> Response:
    """Show one step."""
    found = procedure_steps.step_of(web, sop_instance_uid)
    missing = web.procedure_steps.missing(found)
    row = _row(web, found)
    return render(request, "procedure_step.html", row=row, missing=missing, most=MAX_MISSING)


def _rows(request: Request, web: Web) -> dict[str, Any]:
    given = request.query_params
    asked = {name: given.get(name, "").strip() for name in ("q", "status")}
    try:
        require_short_words(" ".join(asked.values()))
    except ValueError as error:
        raise Problem(422, str(error)) from None
    statuses = (asked["status"],) if asked["status"] else ()
    found, following = procedure_steps.page(
        web, text=asked["q"], statuses=statuses, after=given.get("after"), limit=PAGE_ROWS
    )
    query = {name: value for name, value in asked.items() if value}
    path = f"/procedure-steps/rows?{urlencode(query | {'after': following})}" if following else ""
    return {
        "rows": [_row(web, each) for each in found],
        "next": path,
        "is_first": not given.get("after"),
        "asked": asked,
        "is_search": bool(query),
    }


def _row(web: Web, step: ProcedureStep) -> dict[str, Any]:
    """What the pages show of a step."""
    arrived, objects = web.procedure_steps.arrived(step)
    scheduled = next(iter(step.dataset.sequence(SCHEDULED_STEPS)), Tree())
    return {
        "uid": step.sop_instance_uid,
        "status": step.status,
        "calling_ae_title": step.calling_ae_title,
        "study_uid": study_uid_of(step.dataset),
        "has_study": procedure_steps.has_study(web, step),
        "accession_number": _text(scheduled, "AccessionNumber"),
        "arrived": arrived,
        "objects": objects,
        "discontinued": _discontinued(step.dataset),
        **{name: _text(step.dataset, keyword) for name, keyword in _TEXTS.items()},
    }


def _discontinued(dataset: Tree) -> str:
    """Why the step was discontinued, if it says so."""
    tag = tag_for_keyword("PerformedProcedureStepDiscontinuationReasonCodeSequence")
    reasons = dataset.sequence(tag or 0)
    return ", ".join(text for text in (_text(each, "CodeMeaning") for each in reasons) if text)


def _text(tree: Tree, keyword: str) -> str:
    return tree.text(tag_for_keyword(keyword) or 0)
