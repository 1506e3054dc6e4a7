"""Keeps the matches of one query to a peer within a budget, and on disk if they are many.

Rules: a match is JSON on one line, so that it can be read without the others; what one job keeps is
bounded in bytes; no more than one match at a time is decoded in a process.
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
    """JSON that is encoded already."""

    __slots__ = ()


class Matches:
    """The matches of one run of a job; to be closed.

    Args:
        folder: where they go when they are many.
        max_bytes: how much is kept.

    Attributes:
        count: how many are kept.
        is_full: the next would have been too much.
    """

    def __init__(self, folder: Path, max_bytes: int) -> None:
        self._file = tempfile.SpooledTemporaryFile(_IN_MEMORY_BYTES, dir=str(folder))  # noqa: SIM115
        self._max_bytes = max_bytes
        self._size = 0
        self.count = 0
        self.is_full = False

    def add(self, match: Dataset) -> bool:
        """Keep one; False when it would be too much.

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
        """All of them; as JSON when they are many."""
        self._file.seek(0)
        encoded = f"[{self._file.read().decode('ascii')}]"
        return json.loads(encoded) if len(encoded) <= SHORT_RESULT else EncodedJSON(encoded)

    def close(self) -> None:
        """Drop them."""
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
            return  # none of ours
        for other in others:
            yield from _matches("".join(begun))
            begun, size = [other], len(other)
    yield from _matches("".join(begun))


def _matches(line: str) -> Iterator[Mapping[str, Any]]:
    values = line.removeprefix("[").removesuffix("]").removesuffix(",")
    for each in json.loads(f"[{values}]"):
        if isinstance(each, dict):
            yield each
