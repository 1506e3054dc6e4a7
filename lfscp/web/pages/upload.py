"""The page to upload files, and to send files that lie on the node."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Form, Request, Response
from fastapi.responses import HTMLResponse

from lfscp.web.actions.folders import listing
from lfscp.web.actions.jobs import submit
from lfscp.web.context import Context
from lfscp.web.pages.answers import peer_named, render, toast

router = APIRouter(include_in_schema=False, default_response_class=HTMLResponse)


@router.get("/upload")
def upload(request: Request, web: Context) -> Response:
    """Show where files are dropped, and the node's folders."""
    return render(request, "upload.html", peers=web.peers.all(), roots=web.settings.web.roots)


@router.get("/folders")
def folder(request: Request, web: Context, path: str = "") -> Response:
    """Show the content of a folder of the node."""
    return render(request, "folder.html", listing=listing(web.settings.web.roots, path))


@router.post("/folders/send")
def send_files(
    web: Context,
    path: Annotated[list[str], Form()],
    peer: Annotated[str, Form()] = "",
    commit: Annotated[str, Form()] = "",
) -> Response:
    """Send files and folders to a peer, and ask it for commitment if `commit` is not empty."""
    job = submit(web, "send", peer_named(web, peer), {"paths": path, "commit": bool(commit)})
    return toast(f"Sending the files to {peer}.", f"/jobs#job-{job.id}")
