"""The gate in front of the application (ASGI): asks `access` about each request, adds headers."""

from __future__ import annotations

from http import HTTPStatus
from http.cookies import CookieError, SimpleCookie
from typing import Final
from urllib.parse import quote

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from lfscp.observe import audit
from lfscp.web.access import SECURITY_HEADERS, SESSION_COOKIE, Access, Asked, user_of
from lfscp.web.problems import Problem, respond, wants_page

PROBES: Final = ("/healthz", "/readyz")  # they tell nothing of anybody
CSRF_HEADER: Final = "x-csrf-token"


class Guard:
    """ASGI middleware: no request passes that `access` refuses, no answer leaves without headers.

    A session's changes carry its token in the header X-CSRF-Token; plain forms are sent by the
    page's script, so that no form has to be read here.
    """

    def __init__(self, app: ASGIApp, access: Access) -> None:
        self._app = app
        self._access = access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        request = Request(scope)
        is_probe = scope["path"] in PROBES and scope["method"] in ("GET", "HEAD")

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = message.setdefault("headers", [])
                present = {name.lower() for name, _ in headers}
                headers.extend(each for each in SECURITY_HEADERS if each[0] not in present)
                if b"cache-control" not in present:
                    keep = b"no-cache" if request.url.path.startswith("/static/") else b"no-store"
                    headers.append((b"cache-control", keep))
            await send(message)

        if is_probe:  # answered even when no thread is free, whatever name the node is asked by
            await self._app(scope, receive, send_guarded)
            return
        try:
            # A password's hash takes its time: not in the thread that serves everybody.
            asked = _asked(request)
            session = await run_in_threadpool(self._access.decide, asked)
            scope.setdefault("state", {})["session"] = session
        except Problem as problem:
            await self._refuse(request, problem)(scope, receive, send_guarded)
            return
        audit.act_as(user_of(asked, session), asked.address)
        await self._app(scope, receive, send_guarded)

    def _refuse(self, request: Request, problem: Problem) -> Response:
        if problem.status == HTTPStatus.UNAUTHORIZED and request.method == "GET":
            target = f"/login?next={quote(request.url.path)}"
            if wants_page(request):
                return RedirectResponse(target, HTTPStatus.SEE_OTHER)
            if "hx-request" in request.headers:
                return Response(headers={"HX-Redirect": target}, status_code=HTTPStatus.OK)
        return respond(request, problem)


def _asked(request: Request) -> Asked:
    headers = {name.lower(): value for name, value in request.headers.items()}
    return Asked(
        method=request.method,
        path=request.scope["path"],  # what the routes see; that of `url` depends on Host
        headers=headers,
        address=request.client.host if request.client else "",
        session_id=session_id(request),
        csrf_token=headers.get(CSRF_HEADER, ""),
    )


def session_id(request: Request) -> str:
    """The id in the session's cookie, or ""."""
    cookie: SimpleCookie = SimpleCookie()
    try:
        cookie.load(request.headers.get("cookie", ""))
    except CookieError:
        return ""
    found = cookie.get(SESSION_COOKIE)
    return found.value if found is not None else ""
