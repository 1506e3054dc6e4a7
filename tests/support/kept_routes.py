"""Keeps what FastAPI makes of routes from application to application.

FastAPI reads the parameters of all routes when an application gets its first request.
That takes many times as long as the request. Most tests of the page make an application of their
own, of the same routes.

Relies on FastAPI's private `_EffectiveRouteContext.from_api_route`. If it goes, nothing is kept.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from fastapi import routing

MAX_KEPT = 2000
_CONTEXT = getattr(routing, "_EffectiveRouteContext", None)


def keep_routes() -> None:
    """From here on all applications of this process share what is made of the same route."""
    make = getattr(_CONTEXT, "from_api_route", None)
    if make is None:
        return
    kept: dict[Any, tuple[Any, Any]] = {}  # with the route, so that its id stays its own

    def from_api_route(*, original_route: Any, include_context: Any) -> Any:
        asked = (include_context.prefix, *include_context.tags)
        if include_context.dependencies or include_context.responses or include_context.callbacks:
            return make(original_route=original_route, include_context=include_context)
        key = (id(original_route), asked)
        if key not in kept:
            if len(kept) >= MAX_KEPT:
                kept.clear()
            of_no_application = replace(include_context, dependency_overrides_provider=None)
            made = make(original_route=original_route, include_context=of_no_application)
            kept[key] = (original_route, made)
        return kept[key][1]

    _CONTEXT.from_api_route = staticmethod(from_api_route)  # type: ignore[union-attr]
