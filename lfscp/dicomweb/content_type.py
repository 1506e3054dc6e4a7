"""Reads the header field Content-Type (RFC 9110 section 8.3)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from python_multipart.multipart import parse_options_header


@dataclass(frozen=True, slots=True)
class ContentType:
    """A media type with its parameters, whose names are in lower case."""

    media_type: str
    parameters: Mapping[str, str]

    @classmethod
    def read(cls, text: str) -> ContentType:
        """Read it; parameters may be quoted."""
        name, parameters = parse_options_header(text)
        return cls(
            name.decode("latin_1").lower(),
            {key.decode("latin_1"): value.decode("latin_1") for key, value in parameters.items()},
        )
