"""Answers requests for pictures of stored objects, which the node renders."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from typing import Annotated, Any, Final, Literal, TypeVar
from urllib.parse import quote

from fastapi import APIRouter, Query, Response
from pydantic import BaseModel, Field

from lfscp.archive.store.object_store import StoredFile
from lfscp.web.actions.studies import of_file
from lfscp.web.context import Context, PictureTurn, Web
from lfscp.web.imaging.errors import NoPictureError
from lfscp.web.imaging.geometry import SpacingSource
from lfscp.web.imaging.windows import Function, Window
from lfscp.web.rendering.renderer import MEDIA_TYPES, Wanted
from lfscp.web.rendering.responses import no_picture, response_of

router = APIRouter(
    prefix="/api/instances/{instance_uid}", tags=["pictures"], dependencies=[PictureTurn]
)
T = TypeVar("T")
THUMBNAIL_EDGE: Final = 192
MAX: Final = 1e12  # of a window: no stored value is larger; keeps out infinity and NaN
_CACHED: Final = "private, max-age=300"


class SpacingOut(BaseModel):
    """The size of a pixel in mm, and where that is measured."""

    row_mm: float
    column_mm: float
    source: SpacingSource


class WindowOut(BaseModel):
    """A window, with the explanation that the object gives of it."""

    name: str
    center: float
    width: float
    function: Function


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
    other_windows: list[WindowOut] = Field(description="Of the frame, beside the first.")
    frame_time_ms: float = Field(description="Average time of a frame; 0 if the object names none.")
    frame_times_ms: list[float] | None = Field(description="Time of each frame, if they differ.")
    overlays: int = Field(description="Number of overlay planes.")
    has_values: bool = Field(description="Whether frames may be asked for as values.")
    aspect: float = Field(description="Height of a pixel divided by its width.")
    spacing: SpacingOut | None = Field(description="Null if the object does not say it.")
    orientation: list[float] | None = Field(description="Image Orientation (Patient).")
    position: list[float] | None = Field(description="Image Position (Patient), in mm.")
    patient_orientation: list[str] | None
    frame_of_reference_uid: str
    slice_thickness_mm: float = Field(description="0 if the object does not say it.")


@router.get("/picture")
def picture(
    web: Context,
    instance_uid: str,
    frame: Annotated[int, Query(ge=1, description="Counted from 1.")] = 1,
) -> PictureOut:
    """Describe an object's pictures: frames, size, window, overlays, frame times."""
    found, fitting = _seen(
        web, instance_uid, lambda file: web.renderer.describe(file, instance_uid, frame - 1)
    )
    shown, place = found.window or fitting, found.geometry
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
        other_windows=[WindowOut(name=name, **asdict(each)) for name, each in found.other_windows],
        frame_time_ms=found.times.nominal_ms,
        frame_times_ms=list(found.times.each_ms) or None,
        overlays=found.overlays,
        has_values=found.has_values,
        aspect=found.aspect,
        spacing=SpacingOut(**asdict(place.spacing)) if place.spacing else None,
        orientation=list(place.orientation) or None,
        position=list(place.position) or None,
        patient_orientation=list(place.patient_orientation) or None,
        frame_of_reference_uid=place.frame_of_reference_uid,
        slice_thickness_mm=place.slice_thickness_mm,
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


@router.get("/frames/{number}/values", response_class=Response)
def values(web: Context, instance_uid: str, number: int) -> Response:
    """The stored values of one grey frame, counted from 1: 16 bits each, in little endian.

    The headers tell how they are shown. `Frame-Padding` is the lowest and the highest value that is
    black whatever the window. `Frame-Window` is what the frame is shown with if nothing is asked:
    center, width, VOI LUT Function. If `Frame-Overlays` is 1, one bit a pixel follows the values,
    the lowest bit first: whether an overlay covers it.
    """
    found, about = _seen(
        web, instance_uid, lambda file: web.renderer.values(file, instance_uid, number - 1)
    )
    headers = {"Cache-Control": _CACHED, **_headers(about)}
    return response_of(found, "application/octet-stream", headers)


def _headers(about: dict[str, Any]) -> dict[str, str]:
    """What a viewer must know to show values, as headers."""
    window, padding = about["window"], about["padding"]
    headers = {
        "Frame-Rows": str(about["rows"]),
        "Frame-Columns": str(about["columns"]),
        "Frame-Pixel-Representation": str(int(about["is_signed"])),
        "Frame-Photometric-Interpretation": f"MONOCHROME{1 if about['is_inverse'] else 2}",
        "Frame-Rescale-Slope": repr(about["slope"]),
        "Frame-Rescale-Intercept": repr(about["intercept"]),
        "Frame-Rescale-Type": quote(about["units"], safe=" /"),
        "Frame-Precision": quote(about["precision"]),
        "Frame-Overlays": str(int(about["has_overlays"])),
    }
    if padding:
        headers["Frame-Padding"] = "{} {}".format(*padding)
    if window:
        name = quote(window["function"])
        headers["Frame-Window"] = f"{window['center']!r} {window['width']!r} {name}"
    return headers


@router.get("/thumbnail", response_class=Response)
def thumbnail(web: Context, instance_uid: str) -> Response:
    """A small picture of the middle frame."""
    return _rendered(web, instance_uid, Wanted(None, edge=THUMBNAIL_EDGE))


def _seen(web: Web, instance_uid: str, render: Callable[[StoredFile], T]) -> T:
    """What is rendered of an object's file."""
    try:
        return of_file(web, instance_uid, "picture", render)[1]
    except NoPictureError as error:
        raise no_picture(error) from None


def _rendered(web: Web, instance_uid: str, wanted: Wanted) -> Response:
    found = _seen(web, instance_uid, lambda file: web.renderer.render(file, instance_uid, wanted))
    return response_of(found, MEDIA_TYPES[wanted.encoding], {"Cache-Control": _CACHED})
