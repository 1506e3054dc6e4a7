"""The page to log in, and what logging in and out does.

`provider_login` has the login at an identity provider.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import Annotated, Final
from urllib.parse import quote

from fastapi import APIRouter, Form, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse

from lfscp.web.context import Context, Web, web_of
from lfscp.web.pages.answers import render
from lfscp.web.problems import Problem, wants_page
from lfscp.web.security.access import LOGIN_PAGE
from lfscp.web.security.asked_origin import asked_origin
from lfscp.web.security.sessions import SESSION_COOKIE, SESSION_S

router = APIRouter(include_in_schema=False, default_response_class=HTMLResponse)

Text = Annotated[str, Form()]
PROVIDER_LOGIN: Final = "/login/oidc"


@router.get("/login")
def login(request: Request, web: Context, next: str = "/", left: str = "") -> Response:  # noqa: A002
    """Ask for name and password, or lead to the identity provider.

    Args:
        left: not empty after a logout, which must not log in again by itself.
    """
    access = web.access
    if not access.needs_login:
        return RedirectResponse("/", HTTPStatus.SEE_OTHER)
    provider = access.provider
    if provider is not None and provider.logs_in_browsers and not access.has_users and not left:
        return RedirectResponse(f"{PROVIDER_LOGIN}?next={quote(local(next))}", HTTPStatus.SEE_OTHER)
    return _form(request, web, next)


def _form(request: Request, web: Web, next_page: str, failed: str = "", name: str = "") -> Response:
    """The page to log in; `failed` says why it is shown again, `name` who tried."""
    access, target = web.access, local(next_page)
    provider = access.provider
    offers = provider is not None and provider.logs_in_browsers
    return render(
        request,
        "login.html",
        next=target,
        failed=failed,
        name=name,
        has_users=access.has_users or not offers,
        provider=provider.host if provider is not None and offers else "",
        provider_login=f"{PROVIDER_LOGIN}?next={quote(target)}",
    )


@router.post("/login")
def log_in(
    request: Request,
    web: Context,
    name: Text = "",
    password: Text = "",
    next: Text = "/",  # noqa: A002
) -> Response:
    """Check name and password, then go to the page that was asked for."""
    address = request.client.host if request.client else ""
    try:
        session = web.access.log_in(name, password, address)
    except Problem as problem:
        if not wants_page(request):
            raise
        response = _form(request, web, next, problem.detail, name)
        response.status_code = problem.status
        response.headers.update(problem.headers)
        return response
    response = RedirectResponse(local(next), HTTPStatus.SEE_OTHER)
    # Behind a proxy that ends TLS only the browser knows.
    is_secure = request.headers.get("origin", str(request.url)).startswith("https:")
    give_session(response, session, SESSION_S, is_secure=is_secure)
    return response


def give_session(response: Response, session: str, lasts_s: float, *, is_secure: bool) -> None:
    """Give the browser the cookie of a session."""
    response.set_cookie(
        SESSION_COOKIE,
        session,
        max_age=int(min(lasts_s, SESSION_S)),
        httponly=True,
        samesite="strict",
        secure=is_secure,
    )


@router.post("/logout")
def log_out(request: Request, web: Context) -> Response:
    """End the session, here and at the identity provider."""
    address = request.client.host if request.client else ""
    back = page_origin(request) + LOGIN_PAGE
    target = web.access.log_out(request.cookies.get(SESSION_COOKIE, ""), back, address)
    response = Response(headers={"HX-Redirect": target})
    response.delete_cookie(SESSION_COOKIE)
    return response


def page_origin(request: Request) -> str:
    """Scheme, host and port as this browser sees them: of the page, or of OHIF.

    Raises:
        Problem: the host of the request is no host (400).
    """
    web = web_of(request)
    is_viewer = web.viewer is not None and web.viewer.is_asked(request.scope)
    settings = web.settings.ohif if is_viewer else web.settings.web.oidc
    return settings.public_url or asked_origin(request)


def local(target: str) -> str:
    """A path of this page, so that a login leads to no other site."""
    if not target.startswith("/") or target.startswith("//") or "\\" in target:
        return "/"
    return quote(target, safe="/?=&%-._~:")
