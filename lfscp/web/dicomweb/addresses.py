"""The paths of DICOMweb, and the URLs in its answers.

Rules: URLs begin with `dicomweb.public_url`. Without it, they begin with the scheme and host that
the client asked for: those that a trusted proxy names, or else the header Host. Some clients leave
the port out of that (dicomweb-client 0.61): our own address has the port that it has.
"""

from __future__ import annotations

import re
from http import HTTPStatus
from typing import Annotated, Final
from urllib.parse import quote

from fastapi import Request
from pydantic import AfterValidator

from lfscp.config.checks import is_loopback
from lfscp.web.context import web_of
from lfscp.web.problems import Problem

PREFIX: Final = "/dicom-web"
WADO_URI: Final = "/wado"
_DEFAULT_PORT: Final = 80
_HOST: Final = re.compile(r"(?:[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(?::\d{1,5})?")
_UID: Final = re.compile(r"[0-9A-Za-z._-]{1,64}")  # wider than the standard: some objects are


def require_uid(text: str) -> str:
    """A UID of a path or a query.

    Raises:
        Problem: it is none (400).
    """
    if not _UID.fullmatch(text):
        raise Problem(HTTPStatus.BAD_REQUEST, "a UID has at most 64 digits and dots")
    return text


UID = Annotated[str, AfterValidator(require_uid)]


def base_url(request: Request) -> str:
    """The URL of /dicom-web as this client sees it, without a slash at its end.

    Raises:
        Problem: the host of the request is no host (400).
    """
    public = web_of(request).settings.dicomweb.public_url
    if public:
        return public
    scheme, host = request.scope.get("state", {}).get("asked_address", ("", ""))
    host = host or _with_port(request, request.headers.get("host", ""))
    if not _HOST.fullmatch(host):
        raise Problem(HTTPStatus.BAD_REQUEST, "the host in the request is no name or address")
    if scheme not in ("http", "https"):
        scheme = request.scope["scheme"]
    return f"{scheme}://{host}{PREFIX}"


def _with_port(request: Request, host: str) -> str:
    """The header Host; with our port, where it is our own address without any, or is missing."""
    own, port = request.scope.get("server") or ("localhost", None)
    own = f"[{own}]" if ":" in own else own
    names = {"", own, "localhost"} if is_loopback(own) else {"", own}
    if host.lower() not in names or not port:
        return host or own
    return f"{host or own}:{port}" if port != _DEFAULT_PORT else host or own


def retrieve_url(base: str, study_uid: str, series_uid: str = "", instance_uid: str = "") -> str:
    """Where a study, a series or an instance is retrieved (Retrieve URL, 0008,1190).

    Args:
        base: from `base_url`.
    """
    series = f"/series/{quote(series_uid)}" if series_uid else ""
    instance = f"/instances/{quote(instance_uid)}" if instance_uid else ""
    return f"{base}/studies/{quote(study_uid)}{series}{instance}"
