"""Builds the answers of pages: a template, or a short message."""

from __future__ import annotations

import json
from typing import Annotated, Any

from fastapi import Depends, Request, Response

from lfscp.web.actions.peers import peer_of
from lfscp.web.context import Web, web_of
from lfscp.web.problems import Problem


def render(request: Request, template: str, /, **values: Any) -> Response:
    """Answer with a template."""
    return web_of(request).templates.TemplateResponse(request, template, values)


def say(answer: Response, text: str, href: str = "") -> Response:
    """Show a short message beside an answer.

    Args:
        href: where the message leads.
    """
    message = {"toast": {"text": text, "href": href, "failed": False}}
    answer.headers["HX-Trigger"] = json.dumps(message)
    return answer


def toast(text: str, href: str = "", content: str | None = None) -> Response:
    """Show a short message on the page.

    Args:
        href: where the message leads.
        content: takes the place of what the request was for; None leaves the page as it is.
    """
    headers = {"HX-Reswap": "none"} if content is None else {}
    return say(Response(content, headers=headers), text, href)


async def _fields(request: Request) -> dict[str, list[str]]:
    form = await request.form()
    return {name: [str(each).strip() for each in form.getlist(name)] for name in form}


# The texts of a form, by field.
FormFields = Annotated[dict[str, list[str]], Depends(_fields)]


def peer_named(web: Web, name: str) -> Any:
    """The peer that a form names, as the client side takes it.

    Raises:
        Problem: no peer was chosen, or it is not known.
    """
    if web.peers.get(name) is None:
        raise Problem(422, "choose a peer first")
    return peer_of(web, name)
