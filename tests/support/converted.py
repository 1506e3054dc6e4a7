"""Datasets as `lfscp.services.transcoding.decoding` hands them to a sender, read whole."""

from __future__ import annotations

from pathlib import Path

from lfscp.services.transcoding.decoding import converted


def decode(path: Path, stored_syntax: str, wanted_syntax: str) -> bytes:
    """The dataset of a file in another transfer syntax."""
    with converted(path, stored_syntax, wanted_syntax) as made:
        content = made.body if isinstance(made.body, bytes) else made.body.read()
        assert len(content) == made.size
        return content


def even(path: Path, stored_syntax: str) -> bytes:
    """The dataset of a file, of even length."""
    return decode(path, stored_syntax, stored_syntax)
