"""Takes multipart answers apart, strictly, for tests."""

from __future__ import annotations

import re
from typing import Any, NamedTuple


class Part(NamedTuple):
    """One part: its header lines as they came, and its bytes."""

    head: str
    content: bytes

    @property
    def content_type(self) -> str:
        """What its header says, in exactly the letters that viewers look for."""
        [found] = re.findall(r"(?m)^Content-Type: (.*)$", self.head.replace("\r", ""))
        return str(found)


def parts_of(answer: Any) -> list[Part]:
    """The parts of an answer of requests or of starlette's test client."""
    found = re.fullmatch(
        r'multipart/related; type="([^"]+)"; boundary=([0-9a-f]{16,})',
        answer.headers["content-type"],
    )
    assert found, answer.headers["content-type"]
    boundary = found[2].encode()
    content = answer.content
    assert content.startswith(b"--" + boundary + b"\r\n")
    assert content.endswith(b"\r\n--" + boundary + b"--\r\n")
    between = content[len(boundary) + 4 : -len(boundary) - 8].split(b"\r\n--" + boundary + b"\r\n")
    parts = []
    for each in between:
        head, _, body = each.partition(b"\r\n\r\n")
        parts.append(Part(head.decode(), body))
        assert parts[-1].content_type.startswith(found[1])
    return parts
