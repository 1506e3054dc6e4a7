"""Leads requests that read DICOMweb to their routes, past the router and its error handling.

Rules: a route is found as the router finds it, in the same order, and its `Endpoint` answers its
errors itself. All other requests go on to the router. Login, limits and compression are outside.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp, Receive, Scope, Send

from lfscp.web.dicomweb.addresses import PREFIX, WADO_URI
from lfscp.web.dicomweb.answering import Endpoint

_BEGINNINGS: Final = (PREFIX, WADO_URI)


class ShortWay:
    """ASGI middleware, for directly before the router.

    Args:
        routes: of DICOMweb, in the router's order.
    """

    def __init__(self, app: ASGIApp, routes: Iterable[BaseRoute]) -> None:
        self._app = app
        self._ways = [
            (each.path_regex.match, each.app)
            for each in routes
            if isinstance(each, Route)
            and isinstance(each.app, Endpoint)
            and "GET" in (each.methods or ("GET",))
        ]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        path = scope.get("path", "")
        if scope.get("method") == "GET" and path.startswith(_BEGINNINGS):
            for match, endpoint in self._ways:
                found = match(path)
                if found:
                    scope["path_params"] = found.groupdict()
                    await endpoint(scope, receive, send)
                    return
        await self._app(scope, receive, send)
