"""Tells requests of our own pages from those that pages of other sites make a browser send.

Rules: a request that changes something carries the session's token. DICOMweb takes it without the
token too, from OHIF, which has none: then the browser must say that the page has the same scheme,
host and port as the request. (A cookie goes to all ports of a host: SameSite does not keep out the
page of another port.)
"""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from http import HTTPStatus
from typing import Final
from urllib.parse import urlsplit

from lfscp.web.problems import Problem
from lfscp.web.security.sessions import Session

DICOMWEB: Final = "/dicom-web/"  # sent to by OHIF too, which has no session's token


def require_own_origin(headers: Mapping[str, str]) -> None:
    """Refuse a request that a page of another site made a browser send; scripts send no Origin.

    Raises:
        Problem: it is one (403).
    """
    refused = Problem(HTTPStatus.FORBIDDEN, "this request comes from a page of another site")
    if headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
        raise refused
    origin = headers.get("origin")
    if origin is not None and not _is_own(origin, headers):
        raise refused


def is_from_own_page(
    path: str, headers: Mapping[str, str], csrf_token: str, session: Session
) -> bool:
    """Whether a session's request comes from a page of ours.

    Its token says so or, for DICOMweb, what the browser says.
    """
    given = csrf_token.encode()  # a text may hold no other letters than ASCII
    if hmac.compare_digest(given, session.csrf_token.encode()):
        return True
    return path.startswith(DICOMWEB) and _is_of_same_origin(headers)


def _is_of_same_origin(headers: Mapping[str, str]) -> bool:
    """Whether a browser says that the page that sends a request has the same origin.

    No page can set these headers. Browsers leave Sec-Fetch-Site out if the page was loaded from
    another machine without TLS; then Origin tells.
    """
    site = headers.get("sec-fetch-site")
    if site is not None:
        return site == "same-origin"
    return _is_own(headers.get("origin", ""), headers)


def _is_own(origin: str, headers: Mapping[str, str]) -> bool:
    """Whether an origin is the host and port that a request asks."""
    try:
        return bool(origin) and urlsplit(origin).netloc == headers.get("host")
    except ValueError:  # no address at all
        return False
