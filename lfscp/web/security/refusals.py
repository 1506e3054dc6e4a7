"""Counts refused HTTP requests and connections, logs them once a minute, and answers some."""

from __future__ import annotations

import threading
import time
from typing import Final

from lfscp.observe import metrics
from lfscp.observe.logging import get_logger

LOG: Final = get_logger("lfscp.web")
_SAY_AGAIN_S: Final = 60.0
_RETRY_S: Final = 5

_lock = threading.Lock()
_said: dict[str, tuple[float, int]] = {}  # by reason: when, and how many since


def note_refusal(reason: str, address: str, **fields: object) -> None:
    """Count a refusal; the log has a line for the first, then one a minute with their number.

    Args:
        reason: one of `metrics.HTTP_REFUSALS`.
        address: of the client.
    """
    metrics.HTTP_REFUSED.of(reason).add()
    now = time.monotonic()
    with _lock:
        last, number = _said.get(reason, (-_SAY_AGAIN_S, 0))
        number += 1
        is_due = now - last >= _SAY_AGAIN_S
        _said[reason] = (now, 0) if is_due else (last, number)
    if is_due:
        LOG.warning(
            "HTTP refused",
            reason=reason.replace("_", " "),
            peer=address,
            refused=number,
            **fields,
        )


def unavailable(why: str) -> bytes:
    """A whole answer 503, for a connection that is closed behind it."""
    head = (
        f"HTTP/1.1 503 Service Unavailable\r\nRetry-After: {_RETRY_S}\r\nConnection: close\r\n"
        f"Content-Type: text/plain; charset=utf-8\r\nContent-Length: {len(why) + 1}\r\n\r\n"
    )
    return f"{head}{why}\n".encode("ascii")
