"""Writes multipart/related answers part by part, so that none is ever held as a whole (RFC 2387).

Each part begins with exactly `Content-Type: …`: the viewers' readers look for these letters.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Iterator
from typing import NamedTuple

Bytes = bytes | memoryview


class Part(NamedTuple):
    """One part.

    Args:
        content_type: with its parameters.
        pieces: its bytes, drawn when they are sent.
        location: the URL of what it holds; empty for none.
    """

    content_type: str
    pieces: Iterable[Bytes]
    location: str = ""


class MultipartWriter:
    """Writes one answer; its boundary is random, so that no content can hold it.

    Args:
        root_type: the media type of the parts.
    """

    def __init__(self, root_type: str) -> None:
        self.root_type = root_type
        self._boundary = secrets.token_hex(20)
        self.content_type = f'multipart/related; type="{root_type}"; boundary={self._boundary}'

    def head(self, part: Part) -> bytes:
        """What comes before the bytes of a part."""
        location = f"Content-Location: {part.location}\r\n" if part.location else ""
        return (
            f"--{self._boundary}\r\nContent-Type: {part.content_type}\r\n{location}\r\n"
        ).encode("latin_1", "replace")

    @property
    def end(self) -> bytes:
        """What comes behind the last part."""
        return f"--{self._boundary}--\r\n".encode()

    def pieces(self, parts: Iterable[Part]) -> Iterator[Bytes]:
        """All of it, a piece at a time."""
        for part in parts:
            yield self.head(part)
            yield from part.pieces
            yield b"\r\n"
        yield self.end
