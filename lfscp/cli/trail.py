"""The audit trail of a command that changes something."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lfscp.config import Settings


@contextmanager
def recorded(settings: Settings) -> Iterator[str]:
    """Write into the audit trail what happens, as done by the user who runs the command.

    Yields:
        The user, as the trail names it.
    Raises:
        NodeError: its file cannot be opened.
    """
    from lfscp.node.parts import begin_trail
    from lfscp.observe import audit

    user = f"uid {os.getuid()}"
    begin_trail(settings)
    audit.act_as(user, socket.gethostname())
    try:
        yield user
    finally:
        audit.stop()
