"""A program that writes until a test kills it, forked from a process that has loaded lfscp."""

from __future__ import annotations

import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import IO, Any

from tests.support.forked_lfscp import ForkedProcess
from tests.support.node_process import environment

ROOT = Path(__file__).parents[2]


def started(
    source: str, *arguments: object, stdout: IO[Any] | None = None
) -> subprocess.Popen[bytes] | ForkedProcess:
    """Start it.

    Args:
        source: Python, which may import `tests.support`.
        arguments: its `sys.argv`, from 1 on.
        stdout: where its standard output goes, if not to ours.
    """
    words = [str(each) for each in arguments]
    if sys.platform != "linux":
        command, variables = [sys.executable, "-c", source, *words], {"PYTHONPATH": str(ROOT)}
        return subprocess.Popen(command, stdout=stdout, env=variables)
    with tempfile.NamedTemporaryFile("w", suffix=".py", delete=False) as script:
        script.write(f"import pathlib\npathlib.Path(__file__).unlink()\n{source}")
    standard = (0, 1 if stdout is None else stdout.fileno(), 2)
    return ForkedProcess(words, environment(), standard, script=Path(script.name))


def kill_after(
    writer: subprocess.Popen[bytes] | ForkedProcess, log: Path, word: str, times: int, most_s: float
) -> list[str]:
    """Kill it up to so many seconds after its log has a word so often; the lines of the log."""
    try:
        until = time.monotonic() + 60
        while log.read_text().count(word) < times and writer.poll() is None:
            assert time.monotonic() < until, f"nothing was {word}"
            time.sleep(0.005)
        time.sleep(random.uniform(0, most_s))
    finally:
        writer.kill()
        writer.wait()
    return log.read_text().splitlines()
