"""Ends a soak: tells its failures, and removes its folder unless somebody may look there."""

from __future__ import annotations

import shutil
import signal
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path


def in_folder(given: Path | None, run: Callable[[Path], list[str]]) -> int:
    """Run a soak: the exit code. A folder of its own is kept only if there were failures.

    Args:
        given: where to put everything; it is kept.
        run: gives the failures.
    """
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that its nodes are ended as well
    folder = given or Path(tempfile.mkdtemp(prefix="lfscp-soak-"))
    folder.mkdir(parents=True, exist_ok=True)
    failures = ["it did not end"]
    try:
        failures = run(folder)
    finally:
        if given is None and not failures:
            shutil.rmtree(folder, ignore_errors=True)
    return told(failures)


def told(failures: list[str]) -> int:
    """Tell the first failures on standard error: the exit code."""
    for failure in failures[:20]:
        print(f"FAILED: {failure}", file=sys.stderr)
    if len(failures) > 20:
        print(f"and {len(failures) - 20} more failures", file=sys.stderr)
    return 1 if failures else 0
