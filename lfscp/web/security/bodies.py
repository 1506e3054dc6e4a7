"""Limits the request bodies that are read into memory as a whole (ASGI).

Rules: each body has a maximum of bytes, and of values, since a value in memory takes many times its
bytes. All bodies together, and those of one visitor, have a maximum of bytes until they are
answered. Uploads and objects of STOW-RS go to disk as they arrive, and only the disk limits them.
"""

from __future__ import annotations

import re
from http import HTTPStatus
from typing import Final

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from lfscp.web.problems import Problem, respond
from lfscp.web.security.refusals import note_refusal
from lfscp.web.security.shares import Share

MAX_BODY_BYTES: Final = 1 << 20  # of JSON or a form: some ten thousand UIDs
MAX_VALUES: Final = 50_000
MAX_BYTES_OF_ALL: Final = 16 << 20
MAX_BYTES_OF_VISITOR: Final = 4 << 20
STREAMED: Final = re.compile(r"/api/instances|/dicom-web/studies(/[^/]+)?")
_BEFORE_VALUES: Final = (b",", b"[", b"{", b"&", b"\n")  # of JSON and of forms


class BodyLimit:
    """ASGI middleware: refuses a body that is too long, unread if its length is known."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._held = Share(MAX_BYTES_OF_ALL, MAX_BYTES_OF_VISITOR)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http" or STREAMED.fullmatch(scope["path"]):
            await self._app(scope, receive, send)
            return
        request = Request(scope)
        announced = request.headers.get("content-length", "")
        if announced.isdecimal() and int(announced) > MAX_BODY_BYTES:
            problem = Problem(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, _DETAIL)
            await respond(request, problem)(scope, receive, send)
            return
        body = _Body(self._held, scope["client"][0] if scope["client"] else "")

        async def receive_limited() -> Message:
            message = await receive()
            body.add(message.get("body", b""))
            return message

        try:
            await self._app(scope, receive_limited, send)
        finally:
            body.forget()


class _Body:
    """The part of a body that has arrived.

    Args:
        held: bytes of all bodies.
        visitor: who sends it.
    """

    def __init__(self, held: Share, visitor: str) -> None:
        self._held = held
        self._visitor = visitor
        self._bytes = 0
        self._values = 0

    def add(self, piece: bytes) -> None:
        """Count a piece.

        Raises:
            HTTPException: a limit is exceeded. FastAPI passes this exception on while it reads a
                body, and reports any other as a bad body.
        """
        if not piece:
            return
        self._values += sum(map(piece.count, _BEFORE_VALUES))
        if self._bytes + len(piece) > MAX_BODY_BYTES:
            raise HTTPException(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, _DETAIL)
        if self._values > MAX_VALUES:
            raise HTTPException(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, _TOO_MANY_VALUES)
        if self._held.take(self._visitor, len(piece)):
            note_refusal("bodies", self._visitor)
            detail = "too many requests with a body at once; try again in a moment"
            raise HTTPException(HTTPStatus.SERVICE_UNAVAILABLE, detail, {"Retry-After": "1"})
        self._bytes += len(piece)

    def forget(self) -> None:
        """Give the bytes back: the request is answered."""
        if self._bytes:
            self._held.give(self._visitor, self._bytes)


_DETAIL: Final = (
    f"the body is longer than {MAX_BODY_BYTES} bytes; upload objects to /api/instances, and split "
    "lists over several requests"
)
_TOO_MANY_VALUES: Final = (
    f"the body has more than {MAX_VALUES} values; split lists over several requests"
)
