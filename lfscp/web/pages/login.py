"""The page to log in, and what logging in and out does."""

from __future__ import annotations

from http import HTTPStatus
from typing import Annotated
from urllib.parse import quote

from fastapi import APIRouter, Form, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse

from lfscp.web.context import Context
from lfscp.web.pages.answers import render
from lfscp.web.problems import Problem, wants_page
from lfscp.web.security.access import SESSION_COOKIE, SESSION_S

router = APIRouter(include_in_schema=False, default_response_class=HTMLResponse)

Text = Annotated[str, Form()]


@router.get("/login")
def login(request: Request, web: Context, next: str = "/") -> Response:  # noqa: A002
    """Ask for name and password."""
    if not web.access.needs_login:
        return RedirectResponse("/", HTTPStatus.SEE_OTHER)
    return render(request, "login.html", next=_local(next), failed="")


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
        response = render(request, "login.html", next=_local(next), failed=problem.detail)
        response.status_code = problem.status
        response.headers.update(problem.headers)
        return response
    response = RedirectResponse(_local(next), HTTPStatus.SEE_OTHER)
    response.set_cookie(
        SESSION_COOKIE,
        session,
        max_age=SESSION_S,
        httponly=True,
        samesite="strict",
        # Behind a proxy that ends TLS only the browser knows.
        secure=request.headers.get("origin", str(request.url)).startswith("https:"),
    )
    return response


@router.post("/logout")
def log_out(request: Request, web: Context) -> Response:
    """End the session."""
    address = request.client.host if request.client else ""
    web.access.log_out(request.cookies.get(SESSION_COOKIE, ""), address)
    response = Response(headers={"HX-Redirect": "/login"})
    response.delete_cookie(SESSION_COOKIE)
    return response


def _local(target: str) -> str:
    """A path of this page, so that a login leads to no other site."""
    if not target.startswith("/") or target.startswith("//") or "\\" in target:
        return "/"
    return quote(target, safe="/?=&%-._~:")
