"""Leads requests that read DICOMweb to their routes, past the router and what is around it.

Rules: a route is found as the router finds it, in the same order, and its `Endpoint` answers its
errors itself. What becomes of a request that is not led here is as if this was not there. Login and
limits hold for all. Objects and frames go past the compression too, which never compresses them,
and past the limit of bodies, since nothing here reads one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final

from fastapi import FastAPI
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp, Receive, Scope, Send

from lfscp.web.dicomweb.addresses import PREFIX, WADO_URI
from lfscp.web.dicomweb.answering import Endpoint

_BEGINNINGS: Final = (PREFIX, WADO_URI)


class _Ways:
    """Finds the route of a request.

    Args:
        routes: in the router's order.
    """

    def __init__(self, routes: Iterable[BaseRoute]) -> None:
        self._ways = [
            (each.path_regex.match, each.app)
            for each in routes
            if isinstance(each, Route)
            and isinstance(each.app, Endpoint)
            and "GET" in (each.methods or ("GET",))
        ]

    def find(self, scope: Scope) -> Endpoint | None:
        """What answers a request, with the parts of its path noted; None if it is none of these."""
        path = scope.get("path", "")
        if scope.get("method") == "GET" and path.startswith(_BEGINNINGS):
            for match, endpoint in self._ways:
                found = match(path)
                if found:
                    scope["path_params"] = found.groupdict()
                    return endpoint
        return None


class ShortWay:
    """ASGI middleware, for directly before the router.

    Args:
        routes: of DICOMweb, in the router's order.
    """

    def __init__(self, app: ASGIApp, routes: Iterable[BaseRoute]) -> None:
        self._app = app
        self._ways = _Ways(routes)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        await (self._ways.find(scope) or self._app)(scope, receive, send)


class ShortApplication(FastAPI):
    """An application whose requests for objects and frames go past its middleware.

    What `lead` is given is outside of them instead.
    """

    _ways: _Ways | None = None
    _guarded: ASGIApp

    def lead(self, routes: Iterable[BaseRoute], guarded: Callable[[ASGIApp], ASGIApp]) -> None:
        """Lead requests past the middleware.

        Args:
            routes: of objects and frames, in the router's order.
            guarded: puts around an application what must not be passed.
        """
        self._ways = _Ways(routes)
        self._guarded = guarded(_answer)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        endpoint = self._ways.find(scope) if self._ways is not None else None
        if endpoint is None:
            await super().__call__(scope, receive, send)
            return
        scope["app"], scope[_ENDPOINT] = self, endpoint
        await self._guarded(scope, receive, send)


_ENDPOINT: Final = "lfscp.endpoint"  # of the ASGI scope


async def _answer(scope: Scope, receive: Receive, send: Send) -> None:
    endpoint: Any = scope[_ENDPOINT]
    await endpoint(scope, receive, send)
