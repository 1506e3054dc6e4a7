"""Builds the answers of pages: a template, or a short message."""

from __future__ import annotations

import json
from typing import Any

from fastapi import Request, Response

from lfscp.web.actions.peers import peer_of
from lfscp.web.context import Web, web_of
from lfscp.web.problems import Problem


def render(request: Request, template: str, /, **values: Any) -> Response:
    """Answer with a template."""
    return web_of(request).templates.TemplateResponse(request, template, values)


def toast(text: str, href: str = "", content: str | None = None) -> Response:
    """Show a short message on the page.

    Args:
        href: where the message leads.
        content: takes the place of what the request was for; None leaves the page as it is.
    """
    message = {"toast": {"text": text, "href": href, "failed": False}}
    headers = {"HX-Trigger": json.dumps(message)}
    if content is None:
        headers["HX-Reswap"] = "none"
    return Response(content, headers=headers)


def peer_named(web: Web, name: str) -> Any:
    """The peer that a form names, as the client side takes it.

    Raises:
        Problem: no peer was chosen, or it is not known.
    """
    if web.peers.get(name) is None:
        raise Problem(422, "choose a peer first")
    return peer_of(web, name)
