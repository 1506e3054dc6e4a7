"""Serves OHIF at its port: its start page, its files and its configuration.

DICOMweb, the login and the health checks are served there as on the page's port; all other paths
belong to OHIF. Paths of its own, such as `/viewer`, get its start page. For roles (`role_path`) the
start page is a page that needs a login. The files are like those in /static: anybody may have them.
"""

from __future__ import annotations

import hashlib
import re
from http import HTTPStatus
from pathlib import Path
from typing import Final

from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import BaseRoute, Match
from starlette.types import Receive, Scope, Send

from lfscp.config import Settings
from lfscp.web.ohif import app_config
from lfscp.web.ohif.installation import ZIP_SUFFIX, Installation, Installed
from lfscp.web.ohif.policies import cache_control, file_policy, media_type, page_policy
from lfscp.web.problems import Problem

START_PAGE: Final = "index.html"
# What both ports have: DICOMweb, the login with its files, the health checks.
SHARED_PATHS: Final = re.compile(
    r"/(dicom-web|wado|static|login|logout|healthz|readyz)(/.*)?",
    re.DOTALL,  # a path may have a line end in it
)
_HOST: Final = re.compile(r"([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(:\d{1,5})?")
_NOT_INSTALLED: Final = "OHIF is not installed; the administrator can run `lfscp ohif install`"
_ROLE_OF_PAGE: Final = "/"
_ROLE_OF_FILES: Final = "/static/ohif"


class Viewer:
    """OHIF at a port of this node.

    Args:
        data_dir: where it is installed.
        port: where it is served.
    """

    def __init__(self, data_dir: Path, port: int) -> None:
        self._installed = Installed(data_dir)
        self._port = port

    def serves(self, scope: Scope) -> bool:
        """Whether a request is OHIF's: it came to its port, and for a path of its own."""
        return self.is_asked(scope) and not SHARED_PATHS.fullmatch(scope["path"])

    def is_asked(self, scope: Scope) -> bool:
        """Whether a request came to OHIF's port."""
        _, port = scope.get("server") or ("", None)
        return bool(port == self._port)

    def role_path(self, scope: Scope) -> str:
        """The path by which `roles` knows a request."""
        if not self.serves(scope):
            return str(scope["path"])
        return _ROLE_OF_PAGE if _is_page(scope["path"]) else _ROLE_OF_FILES

    def url(self, request: Request, settings: Settings) -> str:
        """Where this browser finds OHIF, without a slash at its end; empty if it is not installed.

        It is `ohif.public_url`, or else OHIF's port of the host that the browser asked.
        """
        if self._installed.now() is None:
            return ""
        if settings.ohif.public_url:
            return settings.ohif.public_url
        scheme, asked = request.scope.get("state", {}).get("asked_address", ("", ""))
        host = _HOST.fullmatch(asked or request.headers.get("host", ""))
        if host is None:
            return ""
        if scheme not in ("http", "https"):
            scheme = request.scope["scheme"]
        return f"{scheme}://{host[1]}:{self._port}"

    def answer(self, request: Request, settings: Settings) -> Response:
        """Answer a request that is OHIF's.

        Raises:
            Problem: there is no such file (404), OHIF is not installed (503), or the method is
                another one than GET and HEAD (405).
        """
        if request.method not in ("GET", "HEAD"):
            allowed = {"Allow": "GET, HEAD"}
            detail = "OHIF's files can only be read"
            raise Problem(HTTPStatus.METHOD_NOT_ALLOWED, detail, headers=allowed)
        found = self._installed.now()
        if found is None:
            raise Problem(HTTPStatus.SERVICE_UNAVAILABLE, _NOT_INSTALLED)
        path = request.scope["path"]
        name = START_PAGE if _is_page(path) else path.removeprefix("/")
        if name == app_config.NAME:
            return _configuration(request, settings)
        return self._file(request, found, name)

    def _file(self, request: Request, installation: Installation, name: str) -> Response:
        file = installation.files.get(name)
        path = self._installed.path(installation, name)
        if file is None or not self._installed.has(installation, name):
            raise Problem(HTTPStatus.NOT_FOUND, f"there is nothing at {request.url.path}")
        headers = {
            "Content-Security-Policy": _policy(installation, name),
            "Cache-Control": cache_control(name),
            "Content-Type": media_type(name),
            "Vary": "Accept-Encoding",
            "ETag": f'"{file.digest}"',
            "X-Frame-Options": "SAMEORIGIN",
        }
        if file.zipped and _takes_gzip(request.headers.get("accept-encoding", "")):
            path = path.with_name(path.name + ZIP_SUFFIX)
            headers |= {"Content-Encoding": "gzip", "ETag": f'"{file.digest}-gzip"'}
        return _not_modified(request, headers) or FileResponse(path, headers=headers)


def _policy(installation: Installation, name: str) -> str:
    if name.endswith(".html"):
        return page_policy(installation.scripts)
    return file_policy(may_evaluate=name in installation.evaluating)


def _configuration(request: Request, settings: Settings) -> Response:
    content = app_config.app_config(settings.server.ae_title)
    digest = hashlib.blake2b(content, digest_size=12).hexdigest()
    headers = {
        "Content-Security-Policy": file_policy(may_evaluate=False),
        "Cache-Control": cache_control(app_config.NAME),
        "Content-Type": media_type(app_config.NAME),
        "ETag": f'"{digest}"',
    }
    return _not_modified(request, headers) or Response(content, headers=headers)


def _is_page(path: str) -> bool:
    """Whether a path is one of OHIF's own, rather than a file's: its last part has no dot."""
    return "." not in path.rpartition("/")[2] or path == f"/{START_PAGE}"


def _not_modified(request: Request, headers: dict[str, str]) -> Response | None:
    """The answer to a browser that has this already (RFC 9110 section 13.1.2)."""
    known = request.headers.get("if-none-match", "").replace("W/", "").split(",")
    if not {headers["ETag"], "*"} & {each.strip() for each in known}:
        return None
    kept = {name: text for name, text in headers.items() if name != "Content-Encoding"}
    return Response(status_code=HTTPStatus.NOT_MODIFIED, headers=kept)


def _takes_gzip(accepted: str) -> bool:
    """Whether a client takes gzip, by its header Accept-Encoding (RFC 9110 section 12.5.3)."""
    weights: dict[str, str] = {}
    for each in accepted.lower().split(","):
        coding, _, parameter = each.partition(";")
        weights[coding.strip()] = parameter.replace(" ", "").removeprefix("q=")
    weight = weights.get("gzip", weights.get("*", "0"))
    return not re.fullmatch(r"0(\.0*)?", weight)


class ViewerRoute(BaseRoute):
    """Takes the requests that are OHIF's, before all other routes.

    Args:
        viewer: knows which they are.
    """

    def __init__(self, viewer: Viewer) -> None:
        self._viewer = viewer

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """Whether a request is for OHIF."""
        is_ours = scope["type"] == "http" and self._viewer.serves(scope)
        return (Match.FULL if is_ours else Match.NONE), {}

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer it."""
        request = Request(scope, receive)
        answer = self._viewer.answer(request, request.app.state.web.settings)
        await answer(scope, receive, send)
