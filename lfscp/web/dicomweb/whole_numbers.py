"""Reads whole numbers of a request, however many digits they have."""

from __future__ import annotations


def whole_number(text: str, most: int) -> int | None:
    """The number that a text is; None if it is none, or above the most."""
    digits = text.lstrip("0") or text[-1:]
    if not (text.isascii() and text.isdecimal()) or len(digits) > len(str(most)):
        return None
    number = int(digits)
    return number if number <= most else None
