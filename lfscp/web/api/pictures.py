"""Answers requests for pictures of stored objects, which the node renders."""

from __future__ import annotations

from typing import Annotated, Final, Literal

from fastapi import APIRouter, Query, Response
from pydantic import BaseModel, Field

from lfscp.archive.store.object_store import StoredFile
from lfscp.web.actions.studies import file_of, instance_row
from lfscp.web.context import Context, PictureTurn, Web
from lfscp.web.imaging.errors import NoPictureError
from lfscp.web.imaging.windows import Function, Window
from lfscp.web.rendering.renderer import MEDIA_TYPES, Wanted
from lfscp.web.rendering.responses import no_picture, response_of

router = APIRouter(
    prefix="/api/instances/{instance_uid}", tags=["pictures"], dependencies=[PictureTurn]
)
THUMBNAIL_EDGE: Final = 192
MAX: Final = 1e12  # of a window: no stored value is larger; keeps out infinity and NaN
_CACHED: Final = "private, max-age=300"


class PictureOut(BaseModel):
    """What a viewer needs to know before it asks for frames."""

    frames: int
    rows: int
    columns: int
    is_colour: bool
    center: float | None = Field(description="Center of the frame's own window.")
    width: float | None = Field(description="Its width.")
    voi_lut: bool = Field(description="Whether the frame has a VOI LUT instead of a window.")
    fitting_center: float | None = Field(description="Of a window around its values.")
    fitting_width: float | None
    function: Function | None = Field(description="VOI LUT Function of that window.")
    frame_time_ms: float = Field(description="Average time of a frame; 0 if the object names none.")
    frame_times_ms: list[float] | None = Field(description="Time of each frame, if they differ.")
    overlays: int = Field(description="Number of overlay planes.")


@router.get("/picture")
def picture(
    web: Context,
    instance_uid: str,
    frame: Annotated[int, Query(ge=1, description="Counted from 1.")] = 1,
) -> PictureOut:
    """Describe an object's pictures: frames, size, window, overlays, frame times."""
    path = _path_of(web, instance_uid)
    try:
        found, fitting = web.renderer.describe(path, instance_uid, frame - 1)
    except NoPictureError as error:
        raise no_picture(error) from None
    shown = found.window or fitting
    return PictureOut(
        frames=found.frames,
        rows=found.rows,
        columns=found.columns,
        is_colour=found.is_colour,
        center=found.window.center if found.window else None,
        width=found.window.width if found.window else None,
        voi_lut=found.has_voi_lut,
        fitting_center=fitting.center if fitting else None,
        fitting_width=fitting.width if fitting else None,
        function=shown.function if shown else None,
        frame_time_ms=found.times.nominal_ms,
        frame_times_ms=list(found.times.each_ms) or None,
        overlays=found.overlays,
    )


@router.get("/frames/{number}", response_class=Response)
def frame(  # noqa: PLR0913, RUF100 - a parameter each
    web: Context,
    instance_uid: str,
    number: int,
    center: Annotated[float | None, Query(ge=-MAX, le=MAX)] = None,
    width: Annotated[float | None, Query(gt=0, le=MAX)] = None,
    function: Annotated[Function, Query(description="Of the given window.")] = "LINEAR",
    edge: Annotated[int, Query(ge=0, le=4096, description="Longest edge; 0 is full size.")] = 0,
    encoding: Literal["jpeg", "png"] = "jpeg",
    overlays: Annotated[bool, Query(description="Whether to draw overlays.")] = True,  # noqa: FBT002, RUF100 - as HTTP has it
) -> Response:
    """One frame, counted from 1, with its own window or the given one."""
    window = None
    if center is not None and width is not None:
        window = Window(center, width, function)
    wanted = Wanted(number - 1, window, edge, encoding, overlays)
    return _rendered(web, instance_uid, wanted)


@router.get("/thumbnail", response_class=Response)
def thumbnail(web: Context, instance_uid: str) -> Response:
    """A small picture of the middle frame."""
    return _rendered(web, instance_uid, Wanted(None, edge=THUMBNAIL_EDGE))


def _path_of(web: Web, instance_uid: str) -> StoredFile:
    row = instance_row(web, instance_uid)
    web.views.note(row["study_instance_uid"], "picture", row["study_key"])
    return file_of(web, row)


def _rendered(web: Web, instance_uid: str, wanted: Wanted) -> Response:
    try:
        found = web.renderer.render(_path_of(web, instance_uid), instance_uid, wanted)
    except NoPictureError as error:
        raise no_picture(error) from None
    return response_of(found, MEDIA_TYPES[wanted.encoding], {"Cache-Control": _CACHED})
