"""Answers /api/mpps: the procedure steps that modalities have performed, as they reported them."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query

from lfscp.archive.workflow.procedure_steps.rows import ProcedureStep, study_uid_of
from lfscp.dicom.models.json_writer import to_json
from lfscp.web.actions import procedure_steps
from lfscp.web.api.models import PageOut
from lfscp.web.api.studies import After, Text
from lfscp.web.api.workflow_models import ProcedureStepOut, ProcedureStepWithMissingOut
from lfscp.web.context import Context, Web

router = APIRouter(prefix="/api/mpps", tags=["workflow"])
Status = Literal["IN PROGRESS", "COMPLETED", "DISCONTINUED"]
MAX_PAGE = 100  # what has arrived is counted for each


def _written(web: Web, step: ProcedureStep) -> dict[str, Any]:
    arrived, objects = web.procedure_steps.arrived(step)
    return {
        "sop_instance_uid": step.sop_instance_uid,
        "status": step.status,
        "calling_ae_title": step.calling_ae_title,
        "created_at": step.created_at,
        "updated_at": step.updated_at,
        "study_instance_uid": study_uid_of(step.dataset),
        "objects": objects,
        "arrived": arrived,
        "dataset": to_json(step.dataset),
    }


@router.get("")
def steps(  # noqa: PLR0913, RUF100 - a parameter each
    web: Context,
    q: Annotated[
        Text, Query(description="Words of name, Patient ID, accession number or UID.")
    ] = "",
    status: Annotated[list[Status] | None, Query(description="Only these.")] = None,
    study: Annotated[str, Query(description="Study Instance UID.")] = "",
    after: After = None,
    limit: Annotated[int, Query(ge=1, le=MAX_PAGE, description="Rows of a page.")] = 50,
) -> PageOut[ProcedureStepOut]:
    """Performed procedure steps, newest first."""
    found, following = procedure_steps.page(
        web, text=q, statuses=status or (), study_uid=study, after=after, limit=limit
    )
    rows = [ProcedureStepOut.model_validate(_written(web, each)) for each in found]
    return PageOut(rows=rows, next=following)


@router.get("/{sop_instance_uid}")
def step(web: Context, sop_instance_uid: str) -> ProcedureStepWithMissingOut:
    """One performed procedure step, with the objects that have not arrived."""
    found = procedure_steps.step_of(web, sop_instance_uid)
    missing = web.procedure_steps.missing(found)
    return ProcedureStepWithMissingOut.model_validate({**_written(web, found), "missing": missing})
