"""Turns errors into answers: RFC 9457 problem documents for the API, a plain page for people.

Rules: an answer names the wrong field and the next step, and never shows a traceback. An unexpected
error goes to the log, and the answer says only that.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from http import HTTPStatus
from typing import Any, Final, cast

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from lfscp.archive.errors import (
    ClassNotStoredError,
    DuplicateRejectedError,
    IdentityMismatchError,
    InstanceElsewhereError,
    OtherStudyError,
    OutOfResourcesError,
    StoreRefusedError,
    StudyProtectedError,
)
from lfscp.dicom.errors import DatasetError
from lfscp.errors import OperationError
from lfscp.observe.logging import get_logger

LOG: Final = get_logger("lfscp.web")
MEDIA_TYPE: Final = "application/problem+json"
MAX_ERRORS: Final = 100  # that one answer names
_OF_PROGRAMS: Final = ("/api/", "/static/", "/dicom-web", "/wado")  # where only programs ask
_DOWNLOADS: Final = ("/zip", "/file", ".csv")  # but for links of the page that end so


class Problem(Exception):  # noqa: N818 - the name of RFC 9457
    """A request that the node refuses.

    Args:
        status: the HTTP status.
        detail: what is wrong and what to do, one sentence for the caller.
        errors: one entry per wrong field: pointer (RFC 6901) or parameter, and detail.
    """

    def __init__(
        self,
        status: int,
        detail: str,
        *,
        errors: list[dict[str, str]] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = _sendable(detail)
        self.errors = errors and [
            {name: _sendable(text) for name, text in each.items()} for each in errors
        ]
        self.headers = dict(headers or {})


KNOWN: Final = (Problem, HTTPException, RequestValidationError, OperationError)


def _sendable(text: str) -> str:
    """Text that quotes a request as it can be answered: JSON may name half of a character."""
    return text.encode("utf-8", "replace").decode()


def not_found(what: str, name: str) -> Problem:
    """The answer when something does not exist."""
    return Problem(HTTPStatus.NOT_FOUND, f"there is no {what} {name}")


def document(problem: Problem, path: str) -> dict[str, Any]:
    """The problem document (RFC 9457 section 3.1)."""
    body: dict[str, Any] = {
        "type": "about:blank",
        "title": HTTPStatus(problem.status).phrase,
        "status": int(problem.status),
        "detail": problem.detail,
        "instance": path,
    }
    if problem.errors:
        body["errors"] = problem.errors
    return body


def wants_page(request: Request) -> bool:
    """Whether a person's browser asks for a page, rather than a script for data."""
    path = request.scope["path"]
    is_api = path.startswith(_OF_PROGRAMS) and not path.endswith(_DOWNLOADS)
    is_part = "hx-request" in request.headers
    return not is_api and not is_part and "text/html" in request.headers.get("accept", "")


def respond(request: Request, problem: Problem) -> Response:
    """Answer with a page for people, with a problem document for programs."""
    if wants_page(request):
        templates = request.app.state.web.templates
        context = {"problem": problem, "title": HTTPStatus(problem.status).phrase}
        page: Response = templates.TemplateResponse(
            request, "problem.html", context, status_code=problem.status, headers=problem.headers
        )
        return page
    return JSONResponse(
        document(problem, request.url.path),
        status_code=problem.status,
        media_type=MEDIA_TYPE,
        headers=problem.headers,
    )


def answer_of(request: Request, error: Exception) -> Response:
    """The answer to an error that is expected: a problem, or one of KNOWN."""
    if isinstance(error, HTTPException):
        is_missing = error.status_code == HTTPStatus.NOT_FOUND
        detail = f"there is nothing at {request.url.path}" if is_missing else str(error.detail)
        error = Problem(error.status_code, detail, headers=error.headers)
    elif isinstance(error, RequestValidationError):
        error = of_validation(error)
    elif isinstance(error, OperationError):
        error = of_archive(error)
    return respond(request, cast(Problem, error))


def install(app: FastAPI) -> None:
    """Answer every exception of the application."""

    async def handle(request: Request, error: Any) -> Response:
        return answer_of(request, error)

    for kind in KNOWN:
        app.add_exception_handler(kind, handle)
    app.add_middleware(Unexpected)


class Unexpected:
    """ASGI middleware: logs an unexpected error once, and answers it in one sentence.

    FastAPI's handler for Exception would do so too, but it raises the error again, and uvicorn
    would log it a second time.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        begun = False

        async def send_noted(message: Message) -> None:
            nonlocal begun
            begun = begun or message["type"] == "http.response.start"
            await send(message)

        try:
            await self._app(scope, receive, send_noted)
        except ClientDisconnect:
            LOG.debug("the client closed the connection during its request", path=scope["path"])
        except Exception as error:
            if begun or scope["type"] != "http":
                raise  # half an answer is out: the connection must break, and uvicorn logs why
            request = Request(scope)
            LOG.error(  # noqa: TRY400 - our own logger
                "request failed unexpectedly", path=scope["path"], exc_info=error
            )
            detail = "internal error; the log of the node says more"
            answer = respond(request, Problem(HTTPStatus.INTERNAL_SERVER_ERROR, detail))
            await answer(scope, receive, send)


def of_validation(error: RequestValidationError) -> Problem:
    """Name each wrong field."""
    found = error.errors()
    for each in found:
        if each["type"] == "json_invalid":
            reason = each.get("ctx", {}).get("error", "")
            place = each["loc"][-1]  # FastAPI says it here, pydantic in its reason
            where = f" at character {place}" if isinstance(place, int) else ""
            detail = f"the body is not JSON: {reason}{where}"
            return Problem(HTTPStatus.BAD_REQUEST, detail)
        if each["type"] == "model_attributes_type" and isinstance(each["input"], bytes):
            detail = "send the body as JSON, with the header Content-Type: application/json"
            return Problem(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, detail)
    errors = [_field(each, error.body) for each in found[:MAX_ERRORS]]
    first = errors[0]
    where = first.get("pointer") or first.get("parameter", "")
    more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
    detail = f"{where}: {first['detail']}{more}" if where else first["detail"]
    return Problem(HTTPStatus.UNPROCESSABLE_ENTITY, detail, errors=errors)


def pointer_to(path: Iterable[object]) -> str:
    """A JSON pointer (RFC 6901)."""
    parts = (str(part).replace("~", "~0").replace("/", "~1") for part in path)
    return "".join(f"/{part}" for part in parts)


def _in_document(path: Sequence[str | int], document: Any, *, is_missing: bool) -> list[str | int]:
    """The path without the names of types that pydantic tried: they are not in the document."""
    if not isinstance(document, dict | list):
        return list(path)
    found: list[str | int] = []
    inner: Any = document
    for number, part in enumerate(path):
        try:
            inner = inner[part]
            found.append(part)
        except (LookupError, TypeError):
            if is_missing and number == len(path) - 1:
                found.append(part)
    return found


def _field(error: dict[str, Any], body: Any) -> dict[str, str]:
    place, *path = error["loc"] or ["body"]
    message = error["msg"].removeprefix("Value error, ")
    if error["type"] == "extra_forbidden":
        message = "unknown field"
    if place == "body":
        pointer = pointer_to(_in_document(path, body, is_missing=error["type"] == "missing"))
        return {"detail": message} | ({"pointer": pointer} if pointer else {})
    return {"parameter": ".".join(map(str, path)), "detail": message}


_ARCHIVE_STATUS: Final = (
    (DatasetError, HTTPStatus.UNPROCESSABLE_ENTITY),
    (ClassNotStoredError, HTTPStatus.UNPROCESSABLE_ENTITY),
    (IdentityMismatchError, HTTPStatus.UNPROCESSABLE_ENTITY),
    (DuplicateRejectedError, HTTPStatus.CONFLICT),
    (InstanceElsewhereError, HTTPStatus.CONFLICT),
    (OtherStudyError, HTTPStatus.CONFLICT),
    (StudyProtectedError, HTTPStatus.CONFLICT),
    (OutOfResourcesError, HTTPStatus.INSUFFICIENT_STORAGE),
)


def of_archive(error: OperationError) -> Problem:
    """Answer an error of the archive with the status that fits."""
    if isinstance(error, StoreRefusedError):
        refused = HTTPStatus.SERVICE_UNAVAILABLE if error.is_temporary else HTTPStatus.FORBIDDEN
        return Problem(refused, str(error))
    for kind, status in _ARCHIVE_STATUS:
        if isinstance(error, kind):
            return Problem(status, str(error))
    LOG.error("the archive failed", exc_info=error)
    return Problem(HTTPStatus.SERVICE_UNAVAILABLE, "the archive cannot answer; see the node's log")
