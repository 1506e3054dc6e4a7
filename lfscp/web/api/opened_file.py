"""Answers with a file that is opened before the answer begins: it may be removed meanwhile."""

from __future__ import annotations

import os

from fastapi.responses import FileResponse
from starlette.types import Receive, Scope, Send

from lfscp.archive.store.object_store import StoredFile


class OpenedFile(FileResponse):
    """A download, also in parts.

    Args:
        file: opened at once; one of a bucket is fetched first.
        filename: for the visitor.
    Raises:
        OSError: it cannot be opened.
    """

    def __init__(self, file: StoredFile, media_type: str, filename: str) -> None:
        self._file = file.open("rb")
        descriptor = self._file.fileno()
        super().__init__(
            f"/proc/self/fd/{descriptor}",
            media_type=media_type,
            filename=filename,
            stat_result=os.fstat(descriptor),
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it."""
        with self._file:
            await super().__call__(scope, receive, send)
