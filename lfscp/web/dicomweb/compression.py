"""Sends documents, such as JSON, as gzip to clients that take it; never objects and frames."""

from __future__ import annotations

from typing import Final

from starlette.middleware.gzip import DEFAULT_EXCLUDED_CONTENT_TYPES, GZipMiddleware
from starlette.types import ASGIApp, Receive, Scope, Send

MIN_BYTES: Final = 1000
LEVEL: Final = 4  # twice as fast as 6, for a tenth more bytes
# Compressed already, or too large to be worth the time of a processor.
_AS_THEY_ARE: Final = (
    *DEFAULT_EXCLUDED_CONTENT_TYPES,
    *("application/dicom", "application/octet-stream", "application/pdf"),
    *("image/*", "multipart/*"),
)


class Compression:
    """ASGI middleware.

    Args:
        paths: the beginnings of the paths whose documents are compressed.
    """

    def __init__(self, app: ASGIApp, paths: tuple[str, ...]) -> None:
        self._app = app
        self._paths = paths
        self._compressing = GZipMiddleware(
            app, MIN_BYTES, LEVEL, exclude_content_types=_AS_THEY_ARE
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        is_ours = scope["type"] == "http" and scope["path"].startswith(self._paths)
        await (self._compressing if is_ours else self._app)(scope, receive, send)
