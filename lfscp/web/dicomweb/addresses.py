"""The paths of DICOMweb, and the URLs in its answers.

Rules: URLs begin with `dicomweb.public_url`. Without it, they begin with the scheme and host that
the client asked for: those that a trusted proxy names, or else the header Host.
"""

from __future__ import annotations

import re
from http import HTTPStatus
from typing import Annotated, Final

from fastapi import Request
from pydantic import AfterValidator

from lfscp.web.context import web_of
from lfscp.web.problems import Problem

PREFIX: Final = "/dicom-web"
WADO_URI: Final = "/wado"
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
    host = host or request.headers.get("host") or _own_address(request)
    if not _HOST.fullmatch(host):
        raise Problem(HTTPStatus.BAD_REQUEST, "the host in the request is no name or address")
    if scheme not in ("http", "https"):
        scheme = request.scope["scheme"]
    return f"{scheme}://{host}{PREFIX}"


def _own_address(request: Request) -> str:
    """Of a request without Host (HTTP/1.0)."""
    host, port = request.scope.get("server") or ("localhost", None)
    host = f"[{host}]" if ":" in host else host
    return f"{host}:{port}" if port else str(host)


def retrieve_url(base: str, study_uid: str, series_uid: str = "", instance_uid: str = "") -> str:
    """Where a study, a series or an instance is retrieved (Retrieve URL, 0008,1190).

    Args:
        base: from `base_url`.
    """
    series = f"/series/{series_uid}" if series_uid else ""
    instance = f"/instances/{instance_uid}" if instance_uid else ""
    return f"{base}/studies/{study_uid}{series}{instance}"
