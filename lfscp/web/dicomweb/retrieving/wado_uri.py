"""WADO-URI: one object by the query of /wado, as a file, a picture or its document (PS3.18 9).

Rules: without `contentType` an image is a JPEG of its first frame, a document or video is itself,
and any other object is a DICOM file. Objects are not made anonymous here: asking for that is
refused, because an answer with names would be taken for one without.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from http import HTTPStatus
from typing import Final

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from lfscp.dicom.encoding.transfer_syntaxes import EXPLICIT_VR_LITTLE_ENDIAN
from lfscp.dicomweb.media_types import DICOM, is_video, media_type_of
from lfscp.web.dicomweb.accept import MediaRange, Wanted, media_ranges
from lfscp.web.dicomweb.addresses import WADO_URI, require_uid
from lfscp.web.dicomweb.answering import Asked, Endpoint
from lfscp.web.dicomweb.retrieving.bulk_data import document
from lfscp.web.dicomweb.retrieving.documents import document_type
from lfscp.web.dicomweb.retrieving.frames import video
from lfscp.web.dicomweb.retrieving.objects import send_objects
from lfscp.web.dicomweb.retrieving.pictures import pictures_of
from lfscp.web.dicomweb.retrieving.rendering_parameters import (
    MAX_VIEWPORT,
    Rendering,
    number_of,
    pixels_of,
    quality_of,
    refused,
)
from lfscp.web.dicomweb.targets import Instance, instance_at, target_of_uids
from lfscp.web.dicomweb.warning_header import warning_headers
from lfscp.web.imaging.windows import Window
from lfscp.web.problems import Problem
from lfscp.web.rendering.renderer import MEDIA_TYPES, Region
from lfscp.web.rendering.renderer import Wanted as Picture

router = APIRouter(include_in_schema=False)
_UIDS: Final = ("studyUID", "seriesUID", "objectUID")
_NOT_DONE: Final = ("annotation", "charset", "presentationUID", "presentationSeriesUID")
_PICTURES: Final = tuple(MEDIA_TYPES.values())
_MAX_FRAME: Final = 9  # digits
_FRACTION: Final = "four numbers from 0 to 1: left, top, right and bottom"


def wado(asked: Asked) -> Response:
    """One object, as the query says."""
    if (asked.parameter("requestType") or "").upper() != "WADO":
        raise refused("requestType", "WADO")
    if asked.parameter("anonymize"):
        raise Problem(HTTPStatus.NOT_IMPLEMENTED, "objects are not made anonymous here")
    uids = [_required_uid(asked, name) for name in _UIDS]
    wanted = _content_types(asked.parameter("contentType") or "")
    rendering = _rendering(asked)
    number = _frame(asked.parameter("frameNumber"))
    instance = instance_at(asked, *uids)
    for each in wanted or _usual(instance):
        if any(map(each.takes, _PICTURES)) and not _is_other(instance):
            answer = _picture(asked, instance, number, each, rendering, is_chosen=bool(wanted))
            if answer is not None:
                return answer
        elif each.takes(DICOM):
            return _file(asked, uids)
        elif each.takes(document_type(instance.sop_class_uid) or " "):
            return document(asked, instance, [each])
        elif is_video(instance.transfer_syntax_uid) and each.takes(
            media_type_of(instance.transfer_syntax_uid)
        ):
            return video(asked, instance, [each])
    raise Problem(HTTPStatus.NOT_ACCEPTABLE, "contentType names nothing that can be made")


def _required_uid(asked: Asked, name: str) -> str:
    text = asked.parameter(name)
    if not text:
        raise refused(name, "a UID")
    return require_uid(text)


def _content_types(text: str) -> list[Wanted]:
    # A plus sign in a query is a space.
    ranges: list[MediaRange] = media_ranges(text.strip().replace(" ", "+")) if text else []
    ordered = sorted(ranges, key=lambda each: -each.quality)
    return [Wanted(each.media_type, is_multipart=False) for each in ordered if each.quality]


def _is_other(instance: Instance) -> bool:
    return bool(document_type(instance.sop_class_uid)) or is_video(instance.transfer_syntax_uid)


def _usual(instance: Instance) -> Iterator[Wanted]:
    """What an object is sent as when nothing is asked for, best first."""
    if document_type(instance.sop_class_uid):
        yield Wanted(document_type(instance.sop_class_uid), is_multipart=False)
    elif is_video(instance.transfer_syntax_uid):
        yield Wanted(media_type_of(instance.transfer_syntax_uid), is_multipart=False)
    else:
        yield Wanted("image/jpeg", is_multipart=False)
    yield Wanted(DICOM, is_multipart=False)


def _picture(
    asked: Asked,
    instance: Instance,
    number: int,
    wanted: Wanted,
    rendering: Rendering,
    *,
    is_chosen: bool,
) -> Response | None:
    """A picture; None when there is none and it was not asked for."""
    try:
        return pictures_of(asked, instance, [number], [wanted], rendering)
    except Problem as problem:
        is_none = problem.status in (HTTPStatus.NOT_ACCEPTABLE, HTTPStatus.NOT_FOUND)
        if is_chosen or not is_none or asked.parameter("frameNumber") is not None:
            raise
        return None


def _file(asked: Asked, uids: Sequence[str]) -> Response:
    syntax = asked.parameter("transferSyntax") or EXPLICIT_VR_LITTLE_ENDIAN
    target = target_of_uids(asked, *uids)
    return send_objects(asked, target, [Wanted(DICOM, syntax, is_multipart=False)])


def _frame(text: str | None) -> int:
    if text is None:
        return 0
    fits = text.isascii() and text.isdecimal() and len(text) <= _MAX_FRAME
    if not fits or not int(text):
        raise refused("frameNumber", "a number from 1")
    return int(text) - 1


def _rendering(asked: Asked) -> Rendering:
    missing = [name for name in _NOT_DONE if asked.parameter(name) is not None]
    return Rendering(
        Picture(
            window=_window(asked),
            quality=quality_of(asked.parameter("imageQuality"), "imageQuality"),
            viewport=_viewport(asked),
            region=_region(asked.parameter("region")),
        ),
        warning_headers(f"{name} is not supported" for name in missing),
    )


def _window(asked: Asked) -> Window | None:
    center, width = asked.parameter("windowCenter"), asked.parameter("windowWidth")
    if center is None and width is None:
        return None
    name = "windowCenter and windowWidth"
    middle, across = (number_of(text or "", name, "two numbers") for text in (center, width))
    if across <= 0:
        raise refused("windowWidth", "a number above 0")
    return Window(middle, across)


def _viewport(asked: Asked) -> tuple[int, int] | None:
    """Columns and rows: if only one is given, the other may be any."""
    columns, rows = asked.parameter("columns"), asked.parameter("rows")
    if columns is None and rows is None:
        return None
    across = pixels_of(columns, "columns") if columns is not None else 0
    down = pixels_of(rows, "rows") if rows is not None else 0
    return across or MAX_VIEWPORT, down or MAX_VIEWPORT


def _region(text: str | None) -> Region | None:
    if text is None:
        return None
    parts = text.split(",")
    if len(parts) != 4:
        raise refused("region", _FRACTION)
    left, top, right, bottom = (number_of(part, "region", _FRACTION) for part in parts)
    if not 0 <= left < right <= 1 or not 0 <= top < bottom <= 1:
        raise refused("region", _FRACTION)
    return Region(left, top, right - left, bottom - top, in_pixels=False)


def _draws(request: Request) -> bool:
    """Whether a request may be for a picture."""
    return request.query_params.get("contentType") != DICOM


router.routes.append(Route(WADO_URI, Endpoint(wado, _draws), methods=["GET"]))
