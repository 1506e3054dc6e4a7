"""Answers /api/commitments: what peers asked the node to commit to, and how that goes."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

from fastapi import APIRouter, Query
from fastapi import Path as InPath

from lfscp.archive.workflow.commitment.commitment import Commitment, State
from lfscp.archive.workflow.commitment.failure_reasons import words_here
from lfscp.web.actions import commitments, cursors
from lfscp.web.api.models import PageOut
from lfscp.web.api.workflow_models import CommitmentOut, CommitmentWithFailuresOut, FailureOut
from lfscp.web.context import Context

router = APIRouter(prefix="/api/commitments", tags=["workflow"])
Number = Annotated[int, InPath(ge=1, le=cursors.MAX, description="`id` of a commitment.")]


def _written(found: Commitment) -> dict[str, object]:
    due = found.next_attempt_at if commitments.is_due(found) else None
    return {**asdict(found), "next_attempt_at": due}


@router.get("")
def list_commitments(
    web: Context,
    state: Annotated[list[State] | None, Query(description="Only these states.")] = None,
    after: Annotated[str | None, Query(description="`next` of the previous page.")] = None,
    limit: Annotated[int, Query(ge=1, le=500, description="Rows of a page.")] = 50,
) -> PageOut[CommitmentOut]:
    """Storage commitments that peers asked for, newest first."""
    found, following = commitments.page(web, states=state or (), after=after, limit=limit)
    rows = [CommitmentOut.model_validate(_written(each)) for each in found]
    return PageOut(rows=rows, next=following)


@router.get("/{commitment_id}")
def commitment(web: Context, commitment_id: Number) -> CommitmentWithFailuresOut:
    """One storage commitment, with the objects that the node did not commit to."""
    found = commitments.commitment_of(web, commitment_id)
    failures = [
        FailureOut(
            sop_class_uid=each.sop_class_uid,
            sop_instance_uid=each.sop_instance_uid,
            failure_reason=each.reason,
            reason=words_here(each.reason),
        )
        for each in commitments.failures_of(web, commitment_id)
    ]
    return CommitmentWithFailuresOut.model_validate({**_written(found), "failures": failures})


@router.post("/{commitment_id}/retry")
def retry(web: Context, commitment_id: Number) -> CommitmentOut:
    """Verify and report a storage commitment now, once more or again."""
    return CommitmentOut.model_validate(_written(commitments.retry(web, commitment_id)))
