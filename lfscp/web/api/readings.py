"""Answers requests for what objects without pixels hold: reports as text, waveforms as curves."""

from __future__ import annotations

from collections.abc import Callable
from http import HTTPStatus
from typing import Annotated, Final

from fastapi import APIRouter, Path, Query, Response
from pydantic import BaseModel, Field

from lfscp.archive.store.object_store import StoredFile
from lfscp.web.actions.studies import of_file
from lfscp.web.context import Context, PictureTurn, Web
from lfscp.web.documents.waveforms import MAX_GROUPS, MAX_POINTS
from lfscp.web.imaging.errors import NoPictureError
from lfscp.web.rendering.renderer import Rendered
from lfscp.web.rendering.responses import no_picture, response_of

router = APIRouter(
    prefix="/api/instances/{instance_uid}", tags=["reports"], dependencies=[PictureTurn]
)
_LONGEST_S: Final = 1e9
_JSON: Final = "application/json"


class LineOut(BaseModel):
    """One content item of a report."""

    depth: int = Field(description="In the tree; the report itself is 0.")
    number: str = Field(description="Place in the tree, such as 1.2.3.")
    relationship: str
    value_type: str
    name: str = Field(description="Meaning of the concept name.")
    code: str = Field(description="Code of the concept name, such as (121071, DCM).")
    value: str
    units: str = Field(description="Of a measurement.")
    value_code: str = Field(description="Code of a coded value.")
    reference: str = Field(description="SOP Instance UID of the object that it refers to.")


class ReportOut(BaseModel):
    """A structured report as lines, in the order of its tree."""

    completion: str
    verification: str
    content_date: str
    observers: list[str]
    lines: list[LineOut]
    left_out: str = Field(description="Why lines are missing; empty if none is.")


class ChannelOut(BaseModel):
    """One channel: a sample times the factor plus the baseline is in its units."""

    label: str
    units: str
    factor: float
    baseline: float


class GroupOut(BaseModel):
    """Channels that were sampled together."""

    label: str
    originality: str
    frequency_hz: float
    samples: int = Field(description="Of each channel.")
    channels: list[ChannelOut]
    omission: str = Field(description="What it lacks, and why; empty if nothing.")


class WaveformsOut(BaseModel):
    """The waveforms of an object, without their samples."""

    groups: list[GroupOut]
    annotations: list[str]


class CurvesOut(BaseModel):
    """Some seconds of a group."""

    first: int = Field(description="Number of the first sample, counted from 0.")
    samples: int
    step: int = Field(description="Above 1: points are pairs, the lowest and highest of so many.")
    points: list[list[float | None]] = Field(description="Of each channel, in its units.")


@router.get("/report", response_model=ReportOut)
def report(web: Context, instance_uid: str) -> Response:
    """A structured report as text."""
    return _read(web, instance_uid, "report", lambda file: web.renderer.report(file, instance_uid))


@router.get("/waveforms", response_model=WaveformsOut)
def waveforms(web: Context, instance_uid: str) -> Response:
    """The groups of an object's waveforms, and what is noted on them."""
    return _read(
        web, instance_uid, "waveforms", lambda file: web.renderer.waveforms(file, instance_uid)
    )


@router.get("/waveforms/{number}", response_model=CurvesOut)
def curves(  # noqa: PLR0913, RUF100 - a parameter each
    web: Context,
    instance_uid: str,
    number: Annotated[int, Path(ge=1, le=MAX_GROUPS, description="Counted from 1.")],
    start: Annotated[float, Query(ge=0, le=_LONGEST_S, description="Seconds.")] = 0.0,
    seconds: Annotated[float, Query(gt=0, le=_LONGEST_S)] = 10.0,
    points: Annotated[int, Query(ge=2, le=MAX_POINTS, description="At most.")] = 5000,
) -> Response:
    """The curves of one group, in the units of its channels."""
    wanted = {"group": number - 1, "start_s": start, "seconds": seconds, "points": points}
    return _read(
        web,
        instance_uid,
        "waveforms",
        lambda file: web.renderer.curves(file, instance_uid, **wanted),
    )


def _read(
    web: Web, instance_uid: str, how: str, read: Callable[[StoredFile], Rendered]
) -> Response:
    """What is read of an object's file."""
    try:
        _, found = of_file(web, instance_uid, how, read)
    except NoPictureError as error:
        raise no_picture(error, HTTPStatus.UNPROCESSABLE_ENTITY) from None
    return response_of(found, _JSON)
