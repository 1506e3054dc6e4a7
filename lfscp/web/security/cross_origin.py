"""Lets pages of listed other sites use some paths (CORS), and answers what a browser asks before.

Rules: an origin must be listed by name. Cookies are not let through, so such a page sends a token
or a password of its own in the header Authorization. Roles hold as ever.
Source: https://fetch.spec.whatwg.org/#http-cors-protocol
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Receive, Scope, Send

METHODS: Final = ("GET", "HEAD", "POST", "DELETE", "OPTIONS")
ASKED_HEADERS: Final = ("Authorization", "If-None-Match", "If-Range", "Range")
SHOWN_HEADERS: Final = (
    *("Accept-Ranges", "Content-Disposition", "Content-Length", "Content-Location"),
    *("Content-Range", "ETag", "Retry-After", "Warning"),
)
MAX_AGE_S: Final = 600
_KEY: Final = "from_listed_origin"


class CrossOrigin:
    """ASGI middleware: adds the headers of CORS for listed origins, and answers preflights.

    Args:
        paths: the beginnings of the paths that other sites may use.
        origins: gives the listed origins now.
    """

    def __init__(
        self, app: ASGIApp, paths: tuple[str, ...], origins: Callable[[], tuple[str, ...]]
    ) -> None:
        self._app = app
        self._paths = paths
        self._origins = origins

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        origins = self._origins()
        if scope["type"] != "http" or not origins or not self._is_open(scope["path"]):
            await self._app(scope, receive, send)
            return
        state = scope.setdefault("state", {})
        state[_KEY] = Headers(scope=scope).get("origin") in origins
        answer = CORSMiddleware(
            self._app,
            allow_origins=origins,
            allow_methods=METHODS,
            allow_headers=ASKED_HEADERS,
            expose_headers=SHOWN_HEADERS,
            max_age=MAX_AGE_S,
        )
        await answer(scope, receive, send)

    def _is_open(self, path: str) -> bool:
        return any(path == each or path.startswith(f"{each}/") for each in self._paths)


def is_from_listed_origin(scope: Scope) -> bool:
    """Whether a page of a listed other site sent a request."""
    return bool(scope.get("state", {}).get(_KEY))
