"""Answers OPTIONS with what DICOMweb can do here: the resources and their methods, as WADL.

Rules: what no other route answers comes here. A path that is none is 404. A resource that does not
have the method is 405, with all its methods in the header Allow.

Source: PS3.18 section 8.9; https://www.w3.org/Submission/wadl/
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from http import HTTPStatus
from typing import Any, Final
from xml.sax.saxutils import quoteattr

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response
from starlette.routing import Route, compile_path

from lfscp.web.dicomweb.addresses import PREFIX, base_url
from lfscp.web.dicomweb.answering import Asked, Endpoint
from lfscp.web.problems import Problem

router = APIRouter(include_in_schema=False)
WADL: Final = "application/vnd.sun.wadl+xml"
_NAMESPACE: Final = "http://wadl.dev.java.net/2009/02"
_OTHERS: Final = ("*/*", "application/*", "application/xml", WADL)


def at_any_path(asked: Asked) -> Response:
    """Answer what no other route does."""
    request = asked.request
    path = request.path_params.get("path", "")
    if request.method == "OPTIONS":
        return capabilities(request, path)
    for resource, methods in _resources(request.app.routes):
        if compile_path(resource)[0].fullmatch(path):
            allowed = {"Allow": ", ".join(methods)}
            detail = f"{request.method} is not possible here, but {allowed['Allow']}"
            raise Problem(HTTPStatus.METHOD_NOT_ALLOWED, detail, headers=allowed)
    raise _nothing_at(request)


def _nothing_at(request: Request) -> Problem:
    return Problem(HTTPStatus.NOT_FOUND, f"there is nothing at {request.scope['path']}")


def capabilities(request: Request, path: str = "") -> Response:
    """The resources below this path with their methods."""
    known = {
        resource: methods
        for resource, methods in _resources(request.app.routes)
        if _is_below(resource, path.strip("/"))
    }
    if path and not known:
        raise _nothing_at(request)
    accepted = request.headers.get("accept", WADL)
    if "application/json" in accepted or "application/dicom+json" in accepted:
        return JSONResponse(_document(base_url(request), known))
    if not any(each in accepted for each in _OTHERS):
        detail = f"capabilities are {WADL} or application/json"
        raise Problem(HTTPStatus.NOT_ACCEPTABLE, detail)
    return Response(_wadl(base_url(request), known), media_type=WADL)


def _resources(routes: Any) -> Iterator[tuple[str, list[str]]]:
    """The paths below the prefix with all their methods."""
    found: dict[str, set[str]] = {}
    for route in _flat(routes):
        path, methods = getattr(route, "path", ""), getattr(route, "methods", None)
        if methods and path.startswith(f"{PREFIX}/"):
            found.setdefault(path.removeprefix(f"{PREFIX}/"), {"OPTIONS"}).update(methods)
    return ((path, sorted(methods)) for path, methods in sorted(found.items()))


def _flat(routes: Any) -> Iterator[Any]:
    for route in routes:
        inner = getattr(route, "original_router", None)
        yield from (_flat(inner.routes) if inner is not None else (route,))


def _is_below(resource: str, path: str) -> bool:
    """Whether a resource is at a path of a request, or below it."""
    parts = resource.split("/")
    return not path or any(
        compile_path("/".join(parts[:end]))[0].fullmatch(path) for end in range(1, len(parts) + 1)
    )


def _document(base: str, known: dict[str, list[str]]) -> dict[str, Any]:
    resources = [
        {"@path": path, "method": [{"@name": method} for method in methods]}
        for path, methods in known.items()
    ]
    return {"application": {"resources": {"@base": base, "resource": resources}}}


def _wadl(base: str, known: dict[str, list[str]]) -> str:
    lines = [
        '<?xml version="1.0" encoding="UTF-8"?>',
        f"<application xmlns={quoteattr(_NAMESPACE)}>",
        f"<resources base={quoteattr(base)}>",
    ]
    for path, methods in known.items():
        lines.append(f"<resource path={quoteattr(path)}>")
        lines += [
            f'<param name={quoteattr(name)} style="template" required="true"/>'
            for name in re.findall(r"\{(\w+)", path)
        ]
        lines += [f"<method name={quoteattr(method)}/>" for method in methods]
        lines.append("</resource>")
    return "\n".join([*lines, "</resources>", "</application>"])


router.routes.append(Route(PREFIX, Endpoint(at_any_path), methods=["OPTIONS"]))
router.routes.append(Route(f"{PREFIX}/{{path:path}}", Endpoint(at_any_path)))  # any method
