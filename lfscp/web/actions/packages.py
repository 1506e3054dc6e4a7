"""Answers with studies as a ZIP with a DICOMDIR."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from http import HTTPStatus

from fastapi.responses import StreamingResponse

from lfscp.jobs.package import PackageError
from lfscp.web.problems import Problem


def zip_answer(make: Callable[[], Iterator[bytes]], name: str) -> StreamingResponse:
    """The answer with a ZIP.

    Args:
        make: makes its pieces, as `package` does.
        name: of the file, without its ending.
    Raises:
        Problem: the studies have too many objects, or another ZIP is being made.
    """
    try:
        pieces = make()
    except PackageError as error:
        busy, large = HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.REQUEST_ENTITY_TOO_LARGE
        raise Problem(busy if error.passing else large, str(error)) from None
    headers = {"Content-Disposition": f'attachment; filename="{name}.zip"'}
    return StreamingResponse(pieces, media_type="application/zip", headers=headers)
