"""Who works on a commitment: it holds the row for some seconds, and renews that.

When it dies, another process or node goes on.
"""

from __future__ import annotations

import os
import uuid
from typing import Any, Final

from sqlalchemy import ColumnElement, or_

from lfscp.archive.index.tables.dialects import now_ms
from lfscp.archive.index.tables.workflow_tables import commitment

LEASE_S: Final = 15.0
LEASE_MS: Final = round(1000 * LEASE_S)
_LONGEST_LEASE_MS: Final = 900_000  # a later end of one is that of a clock that was wrong
FREE: Final = {"held_by": "", "held_until": 0}


class Holder:
    """One that holds commitments."""

    def __init__(self) -> None:
        self._name = uuid.uuid4().hex

    def __str__(self) -> str:
        """As the column has it."""
        return f"{self._name}:{os.getpid()}"  # a forked process is another one

    def held(self) -> dict[str, Any]:
        """The columns of a commitment that this one holds for LEASE_S from now."""
        return {"held_by": str(self), "held_until": now_ms() + LEASE_MS}

    def is_mine(self) -> ColumnElement[bool]:
        """Whether this one was the last to hold a commitment."""
        return commitment.c.held_by == str(self)


def is_free() -> ColumnElement[bool]:
    """Whether nobody holds a commitment now."""
    until = commitment.c.held_until
    return or_(until < now_ms(), until > now_ms() + _LONGEST_LEASE_MS)
