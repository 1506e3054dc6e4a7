"""Answers with studies as a ZIP with a DICOMDIR."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from http import HTTPStatus
from typing import Final

from fastapi.responses import StreamingResponse
from starlette.requests import ClientDisconnect

from lfscp.archive.errors import ArchiveError
from lfscp.jobs.file_sets.package import PackageError
from lfscp.observe.logging import get_logger
from lfscp.web.problems import Problem

LOG: Final = get_logger("lfscp.web")


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
    return streamed_zip(pieces, name)


def streamed_zip(pieces: Iterator[bytes], name: str) -> StreamingResponse:
    """The answer with a ZIP that is made while it is sent; breaks off if an object cannot be read.

    Args:
        name: of the file, without its ending.
    """
    headers = {"Content-Disposition": f'attachment; filename="{name}.zip"'}
    return StreamingResponse(_said(pieces), media_type="application/zip", headers=headers)


def _said(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """The same pieces; the log says why there are no more of them."""
    try:
        yield from pieces
    except (OSError, ArchiveError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        LOG.warning("answer broken off", what="a ZIP", reason=reason or "a file cannot be read")
        raise ClientDisconnect from None  # no answer is whole then, and no traceback says more
