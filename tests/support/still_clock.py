"""A monotonic clock for code that takes one: it stands still until a test moves it."""

from __future__ import annotations


class StillClock:
    """Gives `now`, in seconds; a test adds to it."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now
