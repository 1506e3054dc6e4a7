"""Limits uploaded forms: their character set, their size, and where their files wait.

Source: RFC 7578. Built on Starlette's `MultiPartParser`: `on_headers_finished`, `_current_part`.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from http import HTTPStatus
from pathlib import Path
from tempfile import SpooledTemporaryFile
from typing import BinaryIO, Final, cast

from python_multipart.multipart import parse_options_header
from starlette.datastructures import FormData, Headers
from starlette.formparsers import MultiPartParser

from lfscp.web.problems import Problem

MAX_FILES: Final = 100  # in one form: each is in memory at first, then an open file
MAX_FIELDS: Final = 100  # beside them
MAX_FIELD_BYTES: Final = 16 << 10
IN_MEMORY_BYTES: Final = 64 << 10  # of a form's file, before it is on the disk


def require_form_in_utf_8(content_type: str) -> None:
    """Refuse a form that names another charset than UTF-8; RFC 7578 has no such parameter.

    Starlette would decode with any codec of Python: some take minutes, others fail.

    Raises:
        Problem: it names another one.
    """
    if "charset" not in content_type.lower():
        return
    kind, parameters = parse_options_header(content_type)
    charset = parameters.get(b"charset", b"utf-8").lower()
    if kind.startswith(b"multipart/") and charset not in (b"utf-8", b"utf8"):
        detail = "a form is read as UTF-8; leave out the charset"
        raise Problem(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, detail)


class FormParser(MultiPartParser):
    """Reads a form, and keeps its files on the archive's volume, which has a reserve.

    Starlette would keep them in TMPDIR, which may be in memory.

    Args:
        folder: for the files; they have no name there, so that none is left over.
    """

    max_part_size = MAX_FIELD_BYTES

    def __init__(self, headers: Headers, stream: AsyncGenerator[bytes, None], folder: Path) -> None:
        super().__init__(
            headers,
            stream,
            max_files=MAX_FILES,
            max_fields=MAX_FIELDS,
            max_part_size=MAX_FIELD_BYTES,
        )
        self._folder = folder
        self._opened: list[SpooledTemporaryFile[bytes]] = []

    def on_headers_finished(self) -> None:
        """Open a file for a part that is a file."""
        super().on_headers_finished()
        file = self._current_part.file
        if file is not None:
            own = SpooledTemporaryFile(  # noqa: SIM115 - for as long as the form is
                IN_MEMORY_BYTES, dir=str(self._folder)
            )
            self._opened.append(own)
            file.file.close()
            file.file = cast(BinaryIO, own)

    async def parse(self) -> FormData:
        """Read the form; on an error no file stays open."""
        try:
            return await super().parse()
        except BaseException:
            for each in self._opened:
                each.close()
            raise
