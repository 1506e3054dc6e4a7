"""How a job came to its end without an error."""

from __future__ import annotations

from dataclasses import dataclass

from lfscp.jobs.model import JSON, State


@dataclass(frozen=True, slots=True)
class Ended:
    """The end of a job: done, or failed in part.

    Args:
        state: DONE or FAILED.
        reason: what should be said of it.
        result: what it found.
    """

    state: State = State.DONE
    reason: str = ""
    result: JSON = None
