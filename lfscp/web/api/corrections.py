"""Answers requests to correct studies and patients, and to confirm or undo it."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from fastapi import Path as InPath
from pydantic import BaseModel, ConfigDict, Field

from lfscp.archive.correctable import COLUMNS, Asked
from lfscp.web.actions import corrections, cursors
from lfscp.web.actions.studies import Key
from lfscp.web.context import Context, Web, caller_of
from lfscp.web.problems import Problem

router = APIRouter(prefix="/api", tags=["archive"])
PatientKey = Annotated[int, InPath(ge=0, le=cursors.MAX, description="`id` of a patient.")]
Limit = Annotated[int, Query(ge=1, le=1000, description="The most corrections to list.")]

_CHANGES = (
    "New values by keyword: PatientName, PatientID, IssuerOfPatientID, PatientBirthDate, "
    "PatientSex, StudyDescription, AccessionNumber."
)


class CorrectIn(BaseModel):
    """What to correct in a study."""

    model_config = ConfigDict(extra="forbid")
    changes: dict[str, str] = Field(default_factory=dict, description=_CHANGES)
    patient: int | None = Field(
        None, ge=0, le=cursors.MAX, description="`id` of a patient to whom the study belongs."
    )


class ChangesIn(BaseModel):
    """What to correct in all studies of a patient."""

    model_config = ConfigDict(extra="forbid")
    changes: dict[str, str] = Field(description=_CHANGES)


class MergeIn(BaseModel):
    """Two patients that are one person."""

    model_config = ConfigDict(extra="forbid")
    patient: int = Field(ge=0, le=cursors.MAX, description="`id` of the one that goes.")
    into: int = Field(ge=0, le=cursors.MAX, description="`id` of the one that stays.")


@router.post("/studies/{study_uid}/correct", status_code=202)
def correct_study(  # noqa: PLR0913, RUF100 - a parameter each
    request: Request,
    web: Context,
    study_uid: str,
    asked: CorrectIn,
    response: Response,
    key: Key = None,
) -> dict[str, Any]:
    """Correct a study, or move it to another patient, by a job.

    The answer is the job. Its `id` is also that of the correction.
    """
    moved = {} if asked.patient is None else corrections.identity_of(web, asked.patient)
    found = corrections.of_study(web, study_uid, key, {**moved, **asked.changes})
    return _begun(request, web, found, response)


@router.post("/patients/merge", status_code=202)
def merge_patients(
    request: Request, web: Context, asked: MergeIn, response: Response
) -> dict[str, Any]:
    """Move all studies of one patient to another, by a job."""
    if asked.patient == asked.into:
        raise Problem(422, "/into: expected another patient")
    identity = corrections.identity_of(web, asked.into)
    found = corrections.of_patient(web, asked.patient, identity)
    return _begun(request, web, found, response)


@router.post("/patients/{key}/correct", status_code=202)
def correct_patient(
    request: Request, web: Context, key: PatientKey, asked: ChangesIn, response: Response
) -> dict[str, Any]:
    """Correct all studies of a patient, by a job."""
    found = corrections.of_patient(web, key, asked.changes)
    return _begun(request, web, found, response)


@router.get("/corrections")
def list_corrections(web: Context, limit: Limit = 100) -> list[dict[str, Any]]:
    """Corrections, the newest first, each with its studies before and after."""
    return [_shown(each) for each in corrections.all_of(web, limit)]


@router.get("/corrections/{correction_id}")
def correction(web: Context, correction_id: str) -> dict[str, Any]:
    """One correction."""
    return _shown(corrections.one(web, correction_id))


@router.post("/corrections/{correction_id}/confirm")
def confirm(web: Context, correction_id: str) -> dict[str, Any]:
    """Confirm a correction: the old objects are removed."""
    return _shown(corrections.confirm(web, correction_id))


@router.post("/corrections/{correction_id}/undo")
def undo(web: Context, correction_id: str) -> dict[str, Any]:
    """Undo a correction: the old objects are back."""
    return _shown(corrections.undo(web, correction_id))


def _shown(correction: dict[str, Any]) -> dict[str, Any]:
    """A correction with the attributes of its studies by keyword, not by column of the index."""
    studies = [
        {
            **study,
            "before": {word: study["before"][at] for word, at in COLUMNS.items()},
            "after": {word: study["after"][at] for word, at in COLUMNS.items()},
        }
        for study in correction["studies"]
    ]
    return {**correction, "studies": studies}


def _begun(request: Request, web: Web, asked: Asked, response: Response) -> dict[str, Any]:
    job = corrections.begin(web, asked, caller_of(request).name)
    response.headers["Location"] = f"/api/jobs/{job.id}"
    return job.to_json()
