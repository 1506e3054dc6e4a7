"""Importing only what a command needs: a command that runs for a moment is mostly imports."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import cast


@contextmanager
def without(*names: str) -> Iterator[None]:
    """Let modules that would use these if they are there go without them.

    Those that are loaded already stay.
    """
    hidden = [name for name in names if name not in sys.modules]
    sys.modules.update(dict.fromkeys(hidden, cast(ModuleType, None)))  # makes its import fail
    try:
        yield
    finally:
        for name in hidden:
            del sys.modules[name]
