"""What pages answer with: a template, or a short message."""

from __future__ import annotations

import json
from typing import Any

from fastapi import Request, Response

from lfscp.web.actions.peers import PeerIn
from lfscp.web.context import Web, web_of
from lfscp.web.problems import Problem


def render(request: Request, template: str, /, **values: Any) -> Response:
    """Answer with a template."""
    return web_of(request).templates.TemplateResponse(request, template, values)


def toast(response: Response, text: str, href: str = "", *, failed: bool = False) -> Response:
    """Let the page show a short message, with the answer or instead of one."""
    message = {"toast": {"text": text, "href": href, "failed": failed}}
    response.headers["HX-Trigger"] = json.dumps(message)
    return response


def nothing(text: str, href: str = "", *, failed: bool = False) -> Response:
    """Answer with a short message alone; the page stays as it is."""
    return toast(Response(headers={"HX-Reswap": "none"}), text, href, failed=failed)


def peer_given(web: Web, name: str) -> str | PeerIn:
    """The peer that a form names."""
    if web.peers.get(name) is None:
        raise Problem(422, "choose a peer first")
    return name
