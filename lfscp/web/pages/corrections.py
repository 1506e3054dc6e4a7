"""The pages to correct a study or a patient, and to confirm or undo what was corrected."""

from __future__ import annotations

from typing import Any, Final, Literal

from fastapi import APIRouter, Request, Response
from fastapi.responses import HTMLResponse

from lfscp.archive.correctable import COLUMNS, Asked
from lfscp.archive.correcting import CORRECTABLE, OF_PATIENT
from lfscp.web.actions import corrections, studies
from lfscp.web.context import Context, Web, caller_of
from lfscp.web.pages.answers import FormFields, render, say
from lfscp.web.pages.templating import in_field

router = APIRouter(include_in_schema=False, default_response_class=HTMLResponse)
_LABELS: Final = {
    "PatientName": "Name",
    "PatientID": "Patient ID",
    "IssuerOfPatientID": "Issuer of Patient ID",
    "PatientBirthDate": "Birth date",
    "PatientSex": "Sex",
    "StudyDescription": "Description",
    "AccessionNumber": "Accession number",
}


@router.get("/studies/{study_uid}/correct")
def form(request: Request, web: Context, study_uid: str, key: studies.Key = None) -> Response:
    """Show the form."""
    row = studies.study_row(web, study_uid, key)
    fields = [
        {"keyword": keyword, "label": _LABELS[keyword], "value": row[COLUMNS[keyword]]}
        for keyword in CORRECTABLE
    ]
    return render(request, "correct.html", study=row, fields=fields)


@router.post("/studies/{study_uid}/correct")
def correct(
    request: Request, web: Context, study_uid: str, form: FormFields, key: studies.Key = None
) -> Response:
    """Show what would change; if the form says so, have it done."""
    row = studies.study_row(web, study_uid, key)
    asked = _asked(web, row, form)
    if _first(form, "step") != "do":
        shown = {"study": row, "asked": asked, "form": form, "labels": _LABELS}
        return render(request, "correct_preview.html", **shown)
    corrections.begin(web, asked, caller_of(request).name)
    return Response(headers={"HX-Redirect": "/corrections"})


@router.get("/corrections")
def page(request: Request, web: Context) -> Response:
    """Show the corrections, the newest first."""
    return render(request, "corrections.html", **_rows(web))


@router.get("/corrections/rows")
def rows(request: Request, web: Context) -> Response:
    """Show their rows again."""
    return render(request, "correction_rows.html", **_rows(web))


@router.post("/corrections/{correction_id}/{wish}")
def act(
    request: Request, web: Context, correction_id: str, wish: Literal["confirm", "undo"]
) -> Response:
    """Confirm or undo a correction, and show all of them again."""
    if wish == "confirm":
        corrections.confirm(web, correction_id)
        said = "The correction was confirmed. The old objects are removed."
    else:
        corrections.undo(web, correction_id)
        said = "The correction was undone."
    return say(render(request, "correction_rows.html", **_rows(web)), said)


def _rows(web: Web) -> dict[str, Any]:
    shown = {column: _LABELS[keyword] for keyword, column in COLUMNS.items()}
    return {"corrections": corrections.all_of(web), "columns": shown}


def _asked(web: Web, row: dict[str, Any], form: dict[str, list[str]]) -> Asked:
    """What a form asks for: changed fields, of the study or of all studies of its patient."""
    is_of_all = _first(form, "scope") == "patient"
    changes: dict[str, str] = {
        keyword: _first(form, keyword)
        for keyword in (OF_PATIENT if is_of_all else CORRECTABLE)
        if keyword in form and in_field(_first(form, keyword)) != in_field(row[COLUMNS[keyword]])
    }
    if other := _first(form, "other_patient_id"):
        key = corrections.patient_named(web, other, _first(form, "other_issuer"))
        changes = {**changes, **corrections.identity_of(web, key)}
    if is_of_all:
        return corrections.of_patient(web, row["patient_id_fk"], changes)
    return corrections.of_study(web, row["study_instance_uid"], row["id"], changes)


def _first(form: dict[str, list[str]], name: str) -> str:
    return form.get(name, [""])[0]
