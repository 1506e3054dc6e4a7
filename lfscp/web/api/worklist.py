"""Answers /api/worklist: what devices are to examine; items are DICOM JSON (PS3.18 annex F)."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

from fastapi import APIRouter, Body, Query, Response
from fastapi import Path as InPath

from lfscp.archive.workflow.worklist.listing import ItemFilter
from lfscp.archive.workflow.worklist.worklist import WorklistItem
from lfscp.dicom.models.json_writer import to_json
from lfscp.web.actions import cursors, worklist
from lfscp.web.api.models import PageOut
from lfscp.web.api.studies import After, Date, Limit, Text
from lfscp.web.api.workflow_models import EXAMPLE, SHORT_EXAMPLE, AddedOut, WorklistItemOut
from lfscp.web.context import Context

router = APIRouter(prefix="/api/worklist", tags=["workflow"])
Number = Annotated[int, InPath(ge=1, le=cursors.MAX, description="`id` of an item.")]
Item = Annotated[
    Any,
    Body(
        description="The item in DICOM JSON, alone or in a list. A keyword may stand for a tag, "
        "and a plain value for the object with `vr` and `Value`.",
        openapi_examples={
            "DICOM JSON": {"value": EXAMPLE},
            "keywords and plain values": {"value": SHORT_EXAMPLE},
        },
    ),
]
Status = Literal[
    "SCHEDULED", "ARRIVED", "READY", "STARTED", "DEPARTED", "COMPLETED", "DISCONTINUED"
]
_WORDS: Final = "Words of name, Patient ID, accession number or Requested Procedure ID."


def _written(item: WorklistItem) -> WorklistItemOut:
    return WorklistItemOut(
        id=item.id,
        source=item.source,
        is_read_only=item.is_of_file,
        created_at=item.created_at,
        updated_at=item.updated_at,
        dataset=to_json(item.dataset),
    )


@router.get("")
def items(  # noqa: PLR0913, RUF100 - a parameter each
    web: Context,
    q: Annotated[Text, Query(description=_WORDS)] = "",
    status: Annotated[list[Status] | None, Query(description="Of a step.")] = None,
    date_from: Date = "",
    date_to: Date = "",
    station: Annotated[str, Query(description="Scheduled Station AE Title.")] = "",
    modality: Text = "",
    after: After = None,
    limit: Limit = 50,
) -> PageOut[WorklistItemOut]:
    """Worklist items, by the beginning of their first step."""
    wanted = ItemFilter(q, status or (), date_from, date_to, station, modality)
    found, following = worklist.page(web, wanted, after=after, limit=limit)
    return PageOut(rows=[_written(each) for each in found], next=following)


@router.post("", status_code=201)
def add(web: Context, item: Item, response: Response) -> AddedOut:
    """Add an item to the worklist; identifiers that it lacks are given to it."""
    item_id = worklist.add(web, worklist.dataset_from(item), "api")
    response.headers["Location"] = f"/api/worklist/{item_id}"
    return AddedOut(id=item_id)


@router.get("/{item_id}")
def item(web: Context, item_id: Number) -> WorklistItemOut:
    """One worklist item."""
    return _written(worklist.item_of(web, item_id))


@router.put("/{item_id}")
def replace(web: Context, item_id: Number, item: Item) -> WorklistItemOut:
    """Replace the dataset of an item. Identifiers and states that it lacks stay as they are."""
    return _written(worklist.replace(web, item_id, worklist.dataset_from(item)))


@router.delete("/{item_id}", status_code=204)
def remove(web: Context, item_id: Number) -> None:
    """Remove an item from the worklist."""
    worklist.remove(web, item_id)
