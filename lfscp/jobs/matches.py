"""Keeps the matches of one query to a peer within a budget, on disk if they are many.

Rules: a match is JSON on one line, so that it can be read alone. The bytes of a job are limited. A
process decodes one match at a time.
"""

from __future__ import annotations

import json
import tempfile
import threading
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from lfscp.jobs.model import SHORT_RESULT
from lfscp.scu.identifiers import plain

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

MEGABYTE: Final = 1_000_000
_IN_MEMORY_BYTES: Final = 1 << 20
_MAX_LINE: Final = 32 << 20
# A hostile match takes a hundred times its bytes while it is decoded.
_DECODING: Final = threading.Lock()


class EncodedJSON(str):
    """Text that is JSON already."""

    __slots__ = ()


class Matches:
    """The matches of one run of a job; the caller closes it.

    Args:
        folder: for a file, if the matches are many.
        max_bytes: limit of all matches.

    Attributes:
        count: how many there are.
        is_full: a match was left out because of the limit.
    """

    def __init__(self, folder: Path, max_bytes: int) -> None:
        self._file = tempfile.SpooledTemporaryFile(_IN_MEMORY_BYTES, dir=str(folder))  # noqa: SIM115
        self._max_bytes = max_bytes
        self._size = 0
        self.count = 0
        self.is_full = False

    def add(self, match: Dataset) -> bool:
        """Add a match; False if it exceeds the limit.

        Raises:
            OSError: the disk is full.
        """
        with _DECODING:
            line = json.dumps(plain(match)).encode("ascii")
        if self._size + len(line) > self._max_bytes:
            self.is_full = True
            return False
        self._size += len(line)
        self._file.write(line if not self.count else b",\n" + line)
        self.count += 1
        return True

    def result(self) -> list[Any] | EncodedJSON:
        """All matches; as JSON text if they are many."""
        self._file.seek(0)
        encoded = f"[{self._file.read().decode('ascii')}]"
        return json.loads(encoded) if len(encoded) <= SHORT_RESULT else EncodedJSON(encoded)

    def close(self) -> None:
        """Drop the matches."""
        self._file.close()


def each_match(pieces: Iterable[str]) -> Iterator[Mapping[str, Any]]:
    """The matches of a result that comes in pieces, one at a time."""
    begun: list[str] = []
    size = 0
    for piece in pieces:
        first, *others = piece.split("\n")
        begun.append(first)
        size += len(first)
        if size > _MAX_LINE:
            return  # not written by us
        for other in others:
            yield from _matches("".join(begun))
            begun, size = [other], len(other)
    yield from _matches("".join(begun))


def _matches(line: str) -> Iterator[Mapping[str, Any]]:
    values = line.removeprefix("[").removesuffix("]").removesuffix(",")
    for each in json.loads(f"[{values}]"):
        if isinstance(each, dict):
            yield each
