"""The paths of DICOMweb, and the URLs in its answers.

Rules: URLs begin with `dicomweb.public_url`. Without it, they begin with the scheme and host that
the client asked for, see `asked_origin`.
"""

from __future__ import annotations

import re
from http import HTTPStatus
from typing import Annotated, Final
from urllib.parse import quote

from fastapi import Request
from pydantic import AfterValidator

from lfscp.web.context import web_of
from lfscp.web.problems import Problem
from lfscp.web.security.asked_origin import asked_origin

PREFIX: Final = "/dicom-web"
WADO_URI: Final = "/wado"
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
    return public or f"{asked_origin(request)}{PREFIX}"


def retrieve_url(base: str, study_uid: str, series_uid: str = "", instance_uid: str = "") -> str:
    """Where a study, a series or an instance is retrieved (Retrieve URL, 0008,1190).

    Args:
        base: from `base_url`.
    """
    series = f"/series/{quote(series_uid)}" if series_uid else ""
    instance = f"/instances/{quote(instance_uid)}" if instance_uid else ""
    return f"{base}/studies/{quote(study_uid)}{series}{instance}"
