"""Datasets as `lfscp.services.transcoding.decoding` hands them to a sender, read whole."""

from __future__ import annotations

from pathlib import Path

from lfscp.services.transcoding.decoding import Converted, decoded, evened


def decode(path: Path, stored_syntax: str, wanted_syntax: str) -> bytes:
    """The dataset of a file in another transfer syntax."""
    with decoded(path, stored_syntax, wanted_syntax) as converted:
        return _content(converted)


def even(path: Path, stored_syntax: str) -> bytes:
    """The dataset of a file, of even length."""
    with evened(path, stored_syntax) as converted:
        return _content(converted)


def _content(converted: Converted) -> bytes:
    body = converted.body
    content = body if isinstance(body, bytes) else body.read()
    assert len(content) == converted.size
    return content
