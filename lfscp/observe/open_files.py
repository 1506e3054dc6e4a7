"""Raises the number of files and connections that a process may have open, and tells it."""

from __future__ import annotations

import contextlib
import resource
from typing import Final

_WITHOUT_LIMIT: Final = 1 << 20


def allow_most_open_files() -> int:
    """Raise the soft limit to the hard one, at start; gives what it is then."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        with contextlib.suppress(OSError, ValueError):  # a sandbox forbids it
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return most_open_files()


def most_open_files() -> int:
    """The soft limit as it is now."""
    soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return soft if soft != resource.RLIM_INFINITY else _WITHOUT_LIMIT
