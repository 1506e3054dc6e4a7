"""Builds HTTP answers with a rendered picture, or with the reason why there is none."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus

from fastapi import Response
from fastapi.responses import StreamingResponse

from lfscp.web.imaging.errors import NoPictureError
from lfscp.web.problems import Problem
from lfscp.web.rendering.pool import PictureRefusedError
from lfscp.web.rendering.renderer import Rendered


def response_of(
    found: Rendered, media_type: str, headers: Mapping[str, str] | None = None
) -> Response:
    """Answer with what was rendered; a large file is read only as fast as the client reads."""
    if found.is_small:
        return Response(found.read(), media_type=media_type, headers=headers)
    headers = {**(headers or {}), "Content-Length": str(found.size)}
    return StreamingResponse(found.pieces(), media_type=media_type, headers=headers)


def no_picture(error: NoPictureError, status: int = HTTPStatus.UNSUPPORTED_MEDIA_TYPE) -> Problem:
    """The answer when there is no picture.

    Args:
        status: unless it was refused for what it costs.
    """
    if not isinstance(error, PictureRefusedError):
        return Problem(status, str(error))
    if error.why == "busy":
        wait = {"Retry-After": "1"}
        return Problem(HTTPStatus.SERVICE_UNAVAILABLE, str(error), headers=wait)
    if error.why == "disk":
        return Problem(HTTPStatus.INSUFFICIENT_STORAGE, str(error))
    return Problem(HTTPStatus.UNPROCESSABLE_ENTITY, str(error))
