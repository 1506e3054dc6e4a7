"""Builds the answer to an upload: the outcome of each file.

Rules: each outcome becomes JSON at once, which takes little memory. The answer has a maximum size;
files beyond it are not stored, so that no object is stored without the answer saying so.
"""

from __future__ import annotations

import json
from http import HTTPStatus
from typing import Final

from fastapi import Response

from lfscp.errors import OperationError
from lfscp.web.api.models import StoredOut
from lfscp.web.problems import Problem, document, of_archive

MAX_ANSWER_BYTES: Final = 16 << 20  # some 50,000 files


class UploadOutcome:
    """The outcomes of several files.

    Args:
        path: of the request.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._stored: list[str] = []
        self._refused: list[str] = []
        self._bytes = 0

    @property
    def is_full(self) -> bool:
        """Whether no more files may be read."""
        return self._bytes >= MAX_ANSWER_BYTES

    def store(self, stored: StoredOut) -> None:
        """Note a file that was stored."""
        self._add(self._stored, stored.model_dump_json())

    def refuse(self, name: str, error: OperationError) -> None:
        """Note a file that was not stored."""
        self._note(name, of_archive(error))

    def refuse_rest(self, name: str) -> None:
        """Note that a file, and the files after it, were not read."""
        detail = "this file and those after it were not read; split the upload"
        self._note(name, Problem(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, detail))

    def response(self) -> Response:
        """The answer."""
        content = f'{{"stored":[{",".join(self._stored)}],"refused":[{",".join(self._refused)}]}}'
        return Response(content, HTTPStatus.CREATED, media_type="application/json")

    def _note(self, name: str, problem: Problem) -> None:
        self._add(self._refused, json.dumps(document(problem, self._path) | {"file": name}))

    def _add(self, to: list[str], text: str) -> None:
        to.append(text)
        self._bytes += len(text)
