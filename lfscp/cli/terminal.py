"""Writes text from peers, files and objects to the terminal safely.

Rule: nothing of it steers the terminal. What is no printable character (controls, escape sequences,
marks that turn the direction of text, half characters) is written as an escape, `\\x1b`.
"""

from __future__ import annotations

import json
import sys
from typing import Any


def printable(text: str) -> str:
    """The text on one line, with escapes for what is not printable."""
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() else _escape(each) for each in text)


def _escape(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")


def tell(text: str) -> None:
    """Write one line to standard output."""
    sys.stdout.write(f"{printable(text)}\n")


def warn(text: str) -> None:
    """Write one line to standard error."""
    sys.stderr.write(f"{printable(text)}\n")


def tell_json(values: Any) -> None:
    """Write values as JSON on one line; JSON itself lets controls beyond ASCII stand."""
    text = json.dumps(values, ensure_ascii=False)
    if not text.isprintable():
        text = "".join(each if each.isprintable() else json.dumps(each)[1:-1] for each in text)
    sys.stdout.write(f"{text}\n")


def keep_writable() -> None:
    """Let no character that the terminal's encoding lacks end a command."""
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="backslashreplace")
