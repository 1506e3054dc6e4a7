"""Reads what a client accepts: the header Accept and the query parameter `accept`.

Rules: parameters may be quoted or not, also where a value has characters that need quotes, as many
clients write `type=image/jp2`. The query parameter goes before the header. What has the quality 0
is not sent, whatever else is accepted.
Source: RFC 9110 section 12.5.1; PS3.18 sections 8.3.3.1, 8.7.3 and 8.7.4.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from http import HTTPStatus
from typing import Final

from starlette.requests import Request

from lfscp.web.problems import Problem

ANY: Final = "*/*"
MULTIPART: Final = "multipart/related"
AS_STORED: Final = "*"  # as a transfer syntax
MAX_RANGES: Final = 100
_USUAL: Final = 500  # characters of what is kept as it was read
_TOKEN: Final = re.compile(r'[^\s;,="]+')
# Possessive: no text takes more than one pass.
_PARAMETER: Final = re.compile(
    r';\s*+(?P<name>[^\s;,="]*+)\s*+'
    r'(?:=\s*+(?:"(?P<quoted>(?:[^"\\]|\\.)*+)"\s*+|(?P<plain>[^;,"]*+)))?+(?=[;,]|$)'
)


@dataclass(frozen=True, slots=True)
class MediaRange:
    """One media range.

    Args:
        media_type: in lower case; it may have wildcards.
        parameters: by their names in lower case, without the quality.
    """

    media_type: str
    parameters: dict[str, str] = field(default_factory=dict)
    quality: float = 1.0


@dataclass(frozen=True, slots=True)
class Wanted:
    """One form in which the client takes what it asks for.

    Args:
        media_type: of the content, or of each part; it may have wildcards.
        transfer_syntax: empty for the default one, AS_STORED, or a UID.
        is_multipart: None if both do.
    """

    media_type: str
    transfer_syntax: str = ""
    is_multipart: bool | None = None

    def takes(self, media_type: str) -> bool:
        """Whether it is, or includes, this media type."""
        kind, _, name = self.media_type.partition("/")
        return self.media_type in (ANY, media_type) or (
            name == "*" and media_type.startswith(f"{kind}/")
        )


def media_ranges(text: str) -> list[MediaRange]:
    """The media ranges of a header line, in its order.

    Raises:
        Problem: it cannot be read.
    """
    found: list[MediaRange] = []
    at = 0
    while at < len(text):
        one, at = _media_range(text, at)
        if one is not None:
            found.append(one)
        if len(found) > MAX_RANGES:
            raise Problem(HTTPStatus.BAD_REQUEST, f"Accept names more than {MAX_RANGES} types")
    return found


def _media_range(text: str, at: int) -> tuple[MediaRange | None, int]:
    """One media range, and where the next begins."""
    end = min((found for found in (text.find(each, at) for each in ";,") if found >= 0), default=-1)
    end = len(text) if end < 0 else end
    media_type = text[at:end].strip().lower()
    parameters, end = _parameters(text, end)
    if not media_type and not parameters:
        return None, end + 1
    kind, slash, name = media_type.partition("/")
    if not slash or not _TOKEN.fullmatch(kind) or not _TOKEN.fullmatch(name):
        raise Problem(HTTPStatus.BAD_REQUEST, f"Accept: {media_type!r} is no media type")
    quality = _quality(parameters.pop("q", "1"))
    return MediaRange(media_type, parameters, quality), end + 1


def _parameters(text: str, at: int) -> tuple[dict[str, str], int]:
    """The parameters from a semicolon on, and where they end: at a comma or the end."""
    found: dict[str, str] = {}
    while at < len(text) and text[at] == ";":
        one = _PARAMETER.match(text, at)
        if one is None:
            raise Problem(HTTPStatus.BAD_REQUEST, f"Accept: {text[at : at + 20]!r} makes no sense")
        at = one.end()
        quoted, plain = one["quoted"], one["plain"]
        value = re.sub(r"\\(.)", r"\1", quoted) if quoted is not None else (plain or "").strip()
        if one["name"]:
            found[one["name"].lower()] = value
    return found, at


def _quality(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise Problem(HTTPStatus.BAD_REQUEST, f"Accept: q={text!r} is no number from 0 to 1")
    return value


def accepted(in_query: Iterable[str], lines: Iterable[str]) -> list[MediaRange]:
    """What a request accepts, the query parameter's before the header's; anything if it is silent.

    Raises:
        Problem: it cannot be read.
    """
    # A plus sign in a query is a space: application/dicom+json.
    texts = [text.strip().replace(" ", "+") for text in in_query]
    found = _by_quality(each for text in texts for each in media_ranges(text))
    found += _by_quality(each for line in lines for each in media_ranges(line))
    return found or [MediaRange(ANY)]


def _by_quality(ranges: Iterable[MediaRange]) -> list[MediaRange]:
    """Best first; of equals what is exact, then what comes first."""
    return sorted(ranges, key=lambda each: (-each.quality, "*" in each.media_type))


def wanted_forms(request: Request) -> list[Wanted]:
    """The forms that a client takes, best first.

    Raises:
        Problem: Accept cannot be read.
    """
    in_query = tuple(request.query_params.getlist("accept"))
    lines = tuple(request.headers.getlist("accept"))
    is_usual = sum(map(len, (*in_query, *lines))) <= _USUAL
    return list((_wanted if is_usual else _wanted.__wrapped__)(in_query, lines))


@lru_cache(256)
def _wanted(in_query: tuple[str, ...], lines: tuple[str, ...]) -> tuple[Wanted, ...]:
    ranges = accepted(in_query, lines)
    refused = {each.media_type for each in ranges if not each.quality}
    forms = _forms(each for each in ranges if each.quality)
    return tuple(form for form in forms if form.media_type not in refused)


def _forms(ranges: Iterable[MediaRange]) -> Iterator[Wanted]:
    for each in ranges:
        syntax = each.parameters.get("transfer-syntax", "")
        if each.media_type in (MULTIPART, "multipart/*"):
            yield Wanted(each.parameters.get("type", ANY).lower(), syntax, is_multipart=True)
        else:
            yield Wanted(each.media_type, syntax, None if each.media_type == ANY else False)


def not_acceptable(offered: Sequence[str], reason: str = "") -> Problem:
    """The answer when nothing that a client accepts can be made.

    Args:
        offered: the media types that there are.
        reason: why not, if it is not that they were not asked for.
    """
    there = " or ".join(offered)
    detail = reason or "none of the media types in Accept can be made"
    return Problem(HTTPStatus.NOT_ACCEPTABLE, f"{detail}; there is {there}" if there else detail)
