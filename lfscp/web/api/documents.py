"""Answers /api/docs: the documentation of the API, all of it served from this node."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse
from fastapi.staticfiles import StaticFiles

router = APIRouter(include_in_schema=False)
ASSETS: Final = "/static/swagger"


def swagger_files() -> StaticFiles | None:
    """The files of Swagger UI; None when the package swagger-ui-bundle is not installed."""
    try:
        from swagger_ui_bundle import swagger_ui_path  # type: ignore[import-untyped]
    except ImportError:
        return None
    return StaticFiles(directory=Path(swagger_ui_path))


@router.get("/api/docs", response_class=HTMLResponse)
def docs(request: Request) -> HTMLResponse:
    """Show the OpenAPI document."""
    page: HTMLResponse = request.app.state.web.templates.TemplateResponse(
        request, "docs.html", {"assets": ASSETS}
    )
    return page
