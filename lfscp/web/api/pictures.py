"""/api: pictures of stored objects, rendered on the node."""

from __future__ import annotations

from typing import Annotated, Final, Literal

from fastapi import APIRouter, Query, Response
from pydantic import BaseModel, Field

from lfscp.archive.object_store import StoredFile
from lfscp.web.api.archive import file_of, instance_row
from lfscp.web.context import Context, Web
from lfscp.web.pictures import NoPicture, Window, describe
from lfscp.web.problems import Problem
from lfscp.web.rendering import MEDIA_TYPES, Wanted

router = APIRouter(prefix="/api/instances/{instance_uid}", tags=["pictures"])
THUMBNAIL_EDGE: Final = 192
MOST: Final = 1e12  # of a window: no stored value is larger; infinity and NaN are none
_CACHED: Final = "private, max-age=300"


class PictureOut(BaseModel):
    """What a viewer must know before it asks for frames."""

    frames: int
    rows: int
    columns: int
    is_colour: bool
    center: float | None = Field(description="Of the object's own window.")
    width: float | None
    frame_time_ms: float = Field(description="0 when the object names none.")


@router.get("/picture")
def picture(web: Context, instance_uid: str) -> PictureOut:
    """What there is to see: frames, size, window."""
    try:
        header = web.renderer.header(path_of(web, instance_uid))
        found = describe(header)
    except NoPicture as error:
        raise Problem(415, str(error)) from None
    return PictureOut(
        frames=found.frames,
        rows=found.rows,
        columns=found.columns,
        is_colour=found.is_colour,
        center=found.window.center if found.window else None,
        width=found.window.width if found.window else None,
        frame_time_ms=found.frame_time_ms,
    )


@router.get("/frames/{number}", response_class=Response)
def frame(  # noqa: PLR0913, RUF100 - a parameter each
    web: Context,
    instance_uid: str,
    number: int,
    center: Annotated[float | None, Query(ge=-MOST, le=MOST)] = None,
    width: Annotated[float | None, Query(gt=0, le=MOST)] = None,
    edge: Annotated[int, Query(ge=0, le=4096, description="Longest edge; 0 is all.")] = 0,
    encoding: Literal["jpeg", "png"] = "jpeg",
) -> Response:
    """One frame, counted from 1, with its own window or the one given."""
    window = None
    if center is not None and width is not None:
        window = Window(center, width)
    wanted = Wanted(number - 1, window, edge, encoding)
    return _rendered(web, instance_uid, wanted)


@router.get("/thumbnail", response_class=Response)
def thumbnail(web: Context, instance_uid: str) -> Response:
    """A small picture of the middle frame."""
    path = path_of(web, instance_uid)
    try:
        frames = describe(web.renderer.header(path)).frames
    except NoPicture as error:
        raise Problem(415, str(error)) from None
    return _rendered(web, instance_uid, Wanted(frames // 2, edge=THUMBNAIL_EDGE))


def path_of(web: Web, instance_uid: str) -> StoredFile:
    """The file of an instance.

    Raises:
        Problem: it is not there.
    """
    row = instance_row(web, instance_uid)
    web.views.note(row["study_instance_uid"], "picture")
    return file_of(web, row)


def _rendered(web: Web, instance_uid: str, wanted: Wanted) -> Response:
    try:
        content = web.renderer.render(path_of(web, instance_uid), instance_uid, wanted)
    except NoPicture as error:
        raise Problem(415, str(error)) from None
    return Response(
        content, media_type=MEDIA_TYPES[wanted.encoding], headers={"Cache-Control": _CACHED}
    )
