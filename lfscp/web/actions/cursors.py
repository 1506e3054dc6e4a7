"""Writes cursors of lists as text for an address, and checks them when they come back."""

from __future__ import annotations

import base64
import binascii
import json
from typing import Final

from lfscp.archive.index.browsing.browse import Cursor
from lfscp.web.problems import Problem

MAX: Final = 2**63 - 1  # of a number in the index


def to_text(cursor: Cursor | None) -> str | None:
    """Write a cursor; None stays None."""
    if cursor is None:
        return None
    return base64.urlsafe_b64encode(json.dumps(cursor).encode()).decode().rstrip("=")


def from_text(text: str | None, kinds: tuple[type, ...]) -> Cursor | None:
    """Read a cursor that `to_text` wrote.

    Args:
        kinds: the types of its values.
    Raises:
        Problem: it is not such a text.
    """
    if not text:
        return None
    try:
        values = json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
        numbers = [value for value in values if isinstance(value, int)]
        is_one = [type(value) for value in values] == list(kinds) and max(map(abs, numbers)) <= MAX
        if is_one and all(_is_storable(value) for value in values if isinstance(value, str)):
            return tuple(values)
    except (ValueError, TypeError, RecursionError, binascii.Error):
        pass
    raise Problem(422, "after: take `next` of the page before, unchanged")


def _is_storable(text: str) -> bool:
    """Whether a database can hold a text: NUL is none to PostgreSQL, half a surrogate to none."""
    return "\0" not in text and not any("\ud800" <= sign <= "\udfff" for sign in text)
