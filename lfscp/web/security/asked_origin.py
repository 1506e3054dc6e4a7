"""Tells the scheme and host that a client asked for, for the URLs in answers.

Rules: those that a trusted proxy names, or else the header Host. Some clients leave the port out of
that (dicomweb-client 0.61): our own address has the port that it has.
"""

from __future__ import annotations

import re
from http import HTTPStatus
from typing import Final

from starlette.requests import Request

from lfscp.config.checks import is_loopback
from lfscp.web.problems import Problem

_DEFAULT_PORT: Final = 80
_HOST: Final = re.compile(r"(?:[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(?::\d{1,5})?")


def asked_origin(request: Request) -> str:
    """Scheme, host and port as this client sees them, without a slash at the end.

    Raises:
        Problem: the host of the request is no host (400).
    """
    scheme, host = request.scope.get("state", {}).get("asked_address", ("", ""))
    host = host or _with_port(request, request.headers.get("host", ""))
    if not _HOST.fullmatch(host):
        raise Problem(HTTPStatus.BAD_REQUEST, "the host in the request is no name or address")
    if scheme not in ("http", "https"):
        scheme = request.scope["scheme"]
    return f"{scheme}://{host}"


def _with_port(request: Request, host: str) -> str:
    """The header Host; with our port, where it is our own address without any, or is missing."""
    own, port = request.scope.get("server") or ("localhost", None)
    own = f"[{own}]" if ":" in own else own
    names = {"", own, "localhost"} if is_loopback(own) else {"", own}
    if host.lower() not in names or not port:
        return host or own
    return f"{host or own}:{port}" if port != _DEFAULT_PORT else host or own
