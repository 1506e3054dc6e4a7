"""Locks the data folder for one node, and refuses one that a restore left incomplete."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from typing import Final

from lfscp.archive.errors import ArchiveError, ArchiveInUseError, not_writable

LOCK_FILE: Final = "lfscp.lock"
RESTORING: Final = "restoring"  # in a folder that a restore has not filled yet


def require_whole(data_dir: Path) -> None:
    """Refuse a folder that a restore has filled in part.

    Raises:
        ArchiveError: it has.
    """
    if (data_dir / RESTORING).exists():
        raise ArchiveError(
            "open the archive",
            f"a restore into {data_dir} did not end",
            "run `lfscp restore` again",
        )


def lock_folder(data_dir: Path) -> int:
    """Take the data folder for this node: the lock goes with the process, however it ends.

    Raises:
        ArchiveInUseError: another node has it.
        ArchiveError: it cannot be made or written to.
    """
    try:
        data_dir.mkdir(mode=0o750, parents=True, exist_ok=True)
        descriptor = os.open(data_dir / LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
    except OSError as error:
        raise not_writable("open the archive", error, data_dir, ", or set data_dir") from None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise ArchiveInUseError(
            "open the archive",
            f"another node uses {data_dir}",
            "stop it, or set another data_dir",
        ) from None
    return descriptor
