"""A bound on what a request may hold in memory (ASGI): bodies that are read as a whole.

Uploads go to disk as they arrive, and have no bound but the disk's.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import Final

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from lfscp.web.problems import Problem, respond

MAX_BODY_BYTES: Final = 1 << 20  # of JSON or a form: some ten thousand UIDs
STREAMED: Final = ("/api/instances",)


class BodyLimit:
    """ASGI middleware: a longer body is refused, before it is read where it says its length."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http" or scope["path"] in STREAMED:
            await self._app(scope, receive, send)
            return
        request = Request(scope)
        announced = request.headers.get("content-length", "")
        if announced.isdecimal() and int(announced) > MAX_BODY_BYTES:
            problem = Problem(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, _DETAIL)
            await respond(request, problem)(scope, receive, send)
            return
        received = 0

        async def receive_limited() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > MAX_BODY_BYTES:
                # FastAPI lets this one pass while it reads a body, and calls others a bad body.
                raise HTTPException(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, _DETAIL)
            return message

        await self._app(scope, receive_limited, send)


_DETAIL: Final = (
    f"the body is longer than {MAX_BODY_BYTES} bytes; upload objects to /api/instances, and split "
    "lists over several requests"
)
