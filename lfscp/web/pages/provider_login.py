"""The login at an identity provider: the way there, and the way back.

The way back ends with a page that leads on by itself, not with a redirect: the browser comes from
another site, and would not send the session's cookie (SameSite=Strict) along a redirect.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import Final

from fastapi import APIRouter, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse

from lfscp.web.context import Context
from lfscp.web.pages.answers import render
from lfscp.web.pages.login import PROVIDER_LOGIN, give_session, local, page_origin
from lfscp.web.problems import Problem, respond

router = APIRouter(include_in_schema=False, default_response_class=HTMLResponse)

LOGIN_COOKIE: Final = "lfscp_login"
BACK: Final = f"{PROVIDER_LOGIN}/return"
_LASTS_S: Final = 600  # as the login itself


@router.get(PROVIDER_LOGIN)
def begin(request: Request, web: Context, next: str = "/") -> Response:  # noqa: A002
    """Lead the browser to the identity provider."""
    origin = page_origin(request)
    begun = web.access.begin_at_provider(origin + BACK, local(next), _address(request))
    response = RedirectResponse(begun.url, HTTPStatus.SEE_OTHER)
    response.set_cookie(
        LOGIN_COOKIE,
        begun.cookie,
        max_age=_LASTS_S,
        path=PROVIDER_LOGIN,
        httponly=True,
        samesite="lax",  # the browser comes back from another site
        secure=origin.startswith("https:"),
    )
    return response


@router.get(BACK)
def finish(request: Request, web: Context) -> Response:
    """Take the provider's answer, and lead to the page that was asked for."""
    origin = page_origin(request)
    cookie = request.cookies.get(LOGIN_COOKIE, "")
    answer = dict(request.query_params)
    response: Response
    try:
        session, target = web.access.log_in_at_provider(
            cookie, answer, origin + BACK, _address(request)
        )
    except Problem as problem:
        response = respond(request, problem)
    else:
        response = render(request, "logged_in.html", next=local(target))
        lasts_s = web.settings.web.oidc.session_s
        give_session(response, session, lasts_s, is_secure=origin.startswith("https:"))
    response.delete_cookie(LOGIN_COOKIE, path=PROVIDER_LOGIN)
    return response


def _address(request: Request) -> str:
    return request.client.host if request.client else ""
