"""File systems of a test's own: soon full, or read-only when it likes. Making one needs root."""

from __future__ import annotations

import errno
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.ci import in_ci


@contextmanager
def small_disk(folder: Path, size: str) -> Iterator[Path]:
    """A file system of its own that is soon full."""
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    tried = subprocess.run(mount, capture_output=True, text=True, check=False)
    if tried.returncode != 0:
        reason = f"a full disk needs a tmpfs of its own: {tried.stderr.strip() or 'mount failed'}"
        (pytest.fail if in_ci() and os.geteuid() == 0 else pytest.skip)(reason)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def set_writable(disk: Path, writable: bool) -> None:
    """Remount a small disk."""
    options = f"remount,{'rw' if writable else 'ro'}"
    subprocess.run(["mount", "-o", options, str(disk)], check=True, capture_output=True)


def fill(file: Path) -> None:
    """Write into a file until the disk is full."""
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT)
    try:
        while os.write(descriptor, bytes(4096)):
            pass
    except OSError as error:
        assert error.errno == errno.ENOSPC  # noqa: PT017 - an end of the loop, not an outcome
    finally:
        os.close(descriptor)
