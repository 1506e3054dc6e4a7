"""What was looked at, and what is to be done about it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Verdict(StrEnum):
    """How it is."""

    FINE = "ok"
    WARNING = "warning"  # the node works, but somebody should know
    WRONG = "wrong"  # the node or a part of it does not work


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at.

    Args:
        subject: of one word: "ports", "disk".
        verdict: how it is.
        text: what was found, on one line; no patient data and no secrets.
        advice: what to do; empty if all is well.
    """

    subject: str
    verdict: Verdict
    text: str
    advice: str = ""


def fine(subject: str, text: str) -> Finding:
    """Nothing is to be done."""
    return Finding(subject, Verdict.FINE, text)


def warning(subject: str, text: str, advice: str) -> Finding:
    """The node works all the same."""
    return Finding(subject, Verdict.WARNING, text, advice)


def wrong(subject: str, text: str, advice: str) -> Finding:
    """The node, or a part of it, does not work."""
    return Finding(subject, Verdict.WRONG, text, advice)
