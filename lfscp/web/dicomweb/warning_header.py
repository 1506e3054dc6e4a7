"""Writes the header Warning, which says what of a request was not done (PS3.18 section 8.3.4)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

AGENT: Final = "lfscp"
_MAX: Final = 20  # that one answer says


def warning_headers(texts: Iterable[str]) -> dict[str, str]:
    """The header for some texts, each said once; no header for none.

    Args:
        texts: sentences; what is no printable ASCII becomes "?".
    """
    said = list(dict.fromkeys(texts))[:_MAX]
    if not said:
        return {}
    return {"Warning": ", ".join(f'299 {AGENT} "{_quotable(text)}"' for text in said)}


def _quotable(text: str) -> str:
    plain = "".join(each if each.isascii() and each.isprintable() else "?" for each in text)
    return plain.replace("\\", "\\\\").replace('"', "'")
