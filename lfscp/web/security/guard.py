"""Guards the application (ASGI): checks each request with `access`, and adds headers to the answer.

If a trusted proxy forwards a request, limits, log and audit trail see the visitor's address.
"""

from __future__ import annotations

from collections.abc import Callable
from http import HTTPStatus
from typing import Final
from urllib.parse import quote

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from lfscp.observe import audit
from lfscp.observe.logging import get_logger
from lfscp.web.problems import Problem, respond, wants_page
from lfscp.web.security.access import (
    SECURITY_HEADERS,
    Access,
    AccessRequest,
    Caller,
)
from lfscp.web.security.cross_origin import is_from_listed_origin
from lfscp.web.security.forms import require_form_in_utf_8
from lfscp.web.security.forwarded import (
    ReverseProxies,
    asked_address,
    is_forwarded,
    visitor_address,
)
from lfscp.web.security.refusals import note_refusal
from lfscp.web.security.sessions import SESSION_COOKIE
from lfscp.web.security.shares import Share

PROBES: Final = ("/healthz", "/readyz")  # they tell nothing about patients or users
MAX_HEADERS: Final = 200
LOG: Final = get_logger("lfscp.web")
CSRF_HEADER: Final = "x-csrf-token"


class Guard:
    """ASGI middleware: refuses what `access` refuses, and adds the headers of every answer.

    A session's requests carry its token in the header X-CSRF-Token. The page's script sends plain
    forms too, so no form has to be read here.

    Args:
        proxies: the trusted ones.
        requests: how many may be served at once.
        role_path: gives the path by which `roles` knows a request; None: its own.
    """

    def __init__(
        self,
        app: ASGIApp,
        access: Access,
        proxies: ReverseProxies,
        requests: Share,
        role_path: Callable[[Scope], str] | None = None,
    ) -> None:
        self._role_path = role_path or _own_path
        self._app = app
        self._access = access
        self._proxies = proxies
        self._requests = requests
        self._has_warned = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        send_guarded = _guarded(scope, send)
        if scope["path"] in PROBES and scope["method"] in ("GET", "HEAD"):
            # Answered even if no thread is free, and whatever the Host header.
            await self._app(scope, receive, send_guarded)
            return
        self._name_visitor(scope)
        request = Request(scope)
        visitor = scope["client"][0] if scope["client"] else ""
        if self._requests.take(visitor):
            note_refusal("requests", visitor)
            detail = "too many requests at once; try again in a moment"
            problem = Problem(HTTPStatus.TOO_MANY_REQUESTS, detail, headers={"Retry-After": "1"})
            await respond(request, problem)(scope, receive, send_guarded)
            return
        try:
            await self._serve(request, receive, send_guarded)
        finally:
            self._requests.give(visitor)

    async def _serve(self, request: Request, receive: Receive, send: Send) -> None:
        scope = request.scope
        try:
            if len(scope["headers"]) > MAX_HEADERS:
                detail = f"the request has more than {MAX_HEADERS} header lines"
                raise Problem(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, detail)  # noqa: TRY301
            require_form_in_utf_8(request.headers.get("content-type", ""))
            asked = _asked(request, self._role_path(scope))
            caller = await self._caller(asked)
            scope.setdefault("state", {})["caller"] = caller
        except Problem as problem:
            await self._refuse(request, problem)(scope, receive, send)
            return
        audit.act_as(caller.name, asked.address)
        await self._app(scope, receive, send)

    async def _caller(self, asked: AccessRequest) -> Caller:
        """Let a request through; in a thread if a password may have to be hashed, which is slow."""
        if "authorization" in asked.headers:
            return await run_in_threadpool(self._access.decide, asked)
        return self._access.decide(asked)

    def _name_visitor(self, scope: Scope) -> None:
        """Replace a trusted proxy's address by the visitor's."""
        peer = scope["client"][0] if scope.get("client") else ""
        proxies = self._proxies.networks
        visitor = visitor_address(peer, scope["headers"], proxies)
        scope.setdefault("state", {})["asked_address"] = asked_address(
            peer, scope["headers"], proxies
        )
        if visitor != peer:
            scope["client"] = (visitor, 0)
        elif not self._has_warned and not proxies and is_forwarded(scope["headers"]):
            self._has_warned = True
            LOG.warning(
                "a proxy that is not trusted forwards visitors' addresses",
                peer=peer,
                hint="add it to web.trusted_proxies; until then all its visitors count as one",
            )

    def _refuse(self, request: Request, problem: Problem) -> Response:
        if problem.status == HTTPStatus.UNAUTHORIZED and request.method == "GET":
            query = f"?{request.url.query}" if request.url.query else ""
            target = f"/login?next={quote(request.url.path + query)}"
            if wants_page(request):
                return RedirectResponse(target, HTTPStatus.SEE_OTHER)
            if "hx-request" in request.headers:
                return Response(headers={"HX-Redirect": target}, status_code=HTTPStatus.OK)
        return respond(request, problem)


def _guarded(scope: Scope, send: Send) -> Send:
    """Add the headers of every answer."""

    async def send_guarded(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = message.setdefault("headers", [])
            present = {name.lower() for name, _ in headers}
            headers.extend(each for each in SECURITY_HEADERS if each[0] not in present)
            if b"cache-control" not in present:
                keep = b"no-cache" if scope["path"].startswith("/static/") else b"no-store"
                headers.append((b"cache-control", keep))
        await send(message)

    return send_guarded


def _own_path(scope: Scope) -> str:
    """The path that routes see; the one in a request's `url` depends on Host."""
    return str(scope["path"])


def _asked(request: Request, path: str) -> AccessRequest:
    return AccessRequest(
        method=request.method,
        path=path,
        headers=request.headers,
        address=request.client.host if request.client else "",
        session_id=request.cookies.get(SESSION_COOKIE, ""),
        csrf_token=request.headers.get(CSRF_HEADER, ""),
        from_listed_origin=is_from_listed_origin(request.scope),
    )
