"""/api: pictures of stored objects, rendered on the node."""

from __future__ import annotations

from typing import Annotated, Final, Literal

from fastapi import APIRouter, Query, Response
from pydantic import BaseModel, Field

from lfscp.archive.store.object_store import StoredFile
from lfscp.web.actions.studies import file_of, instance_row
from lfscp.web.context import Context, Web
from lfscp.web.imaging.errors import NoPictureError
from lfscp.web.imaging.windows import Function, Window
from lfscp.web.rendering.picture_answers import no_picture, response_of
from lfscp.web.rendering.rendering import MEDIA_TYPES, Wanted

router = APIRouter(prefix="/api/instances/{instance_uid}", tags=["pictures"])
THUMBNAIL_EDGE: Final = 192
MAX: Final = 1e12  # of a window: no stored value is larger; infinity and NaN are none
_CACHED: Final = "private, max-age=300"


class PictureOut(BaseModel):
    """What a viewer must know before it asks for frames."""

    frames: int
    rows: int
    columns: int
    is_colour: bool
    center: float | None = Field(description="Of the frame's own window.")
    width: float | None
    voi_lut: bool = Field(description="Whether the frame is shown by a VOI LUT of its own.")
    fitting_center: float | None = Field(description="Of one around its values, without its own.")
    fitting_width: float | None
    function: Function | None = Field(description="Of whichever of the two there is.")
    frame_time_ms: float = Field(description="On the average; 0 when the object names none.")
    frame_times_ms: list[float] | None = Field(description="Of each frame, when they differ.")
    overlays: int = Field(description="How many overlay planes there are.")


@router.get("/picture")
def picture(
    web: Context,
    instance_uid: str,
    frame: Annotated[int, Query(ge=1, description="Whose window; counted from 1.")] = 1,
) -> PictureOut:
    """What there is to see: frames, size, window, overlays, how fast to play."""
    path = path_of(web, instance_uid)
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
    function: Annotated[Function, Query(description="Of the window that is given.")] = "LINEAR",
    edge: Annotated[int, Query(ge=0, le=4096, description="Longest edge; 0 is all.")] = 0,
    encoding: Literal["jpeg", "png"] = "jpeg",
    overlays: Annotated[bool, Query(description="Whether they are drawn.")] = True,  # noqa: FBT002, RUF100 - as HTTP has it
) -> Response:
    """One frame, counted from 1, with its own window or the one given."""
    window = None
    if center is not None and width is not None:
        window = Window(center, width, function)
    wanted = Wanted(number - 1, window, edge, encoding, overlays)
    return _rendered(web, instance_uid, wanted)


@router.get("/thumbnail", response_class=Response)
def thumbnail(web: Context, instance_uid: str) -> Response:
    """A small picture of the middle frame."""
    return _rendered(web, instance_uid, Wanted(None, edge=THUMBNAIL_EDGE))


def path_of(web: Web, instance_uid: str) -> StoredFile:
    """The file of an instance.

    Raises:
        Problem: it is not there.
    """
    row = instance_row(web, instance_uid)
    web.views.note(row["study_instance_uid"], "picture", row["study_key"])
    return file_of(web, row)


def _rendered(web: Web, instance_uid: str, wanted: Wanted) -> Response:
    try:
        found = web.renderer.render(path_of(web, instance_uid), instance_uid, wanted)
    except NoPictureError as error:
        raise no_picture(error) from None
    return response_of(found, MEDIA_TYPES[wanted.encoding], {"Cache-Control": _CACHED})
