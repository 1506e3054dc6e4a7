"""Locks the data folder for one node, and refuses one that a restore left incomplete.

Commands may work in the folder beside the node, as another process of it would. They share a second
lock. While one has it, a node that starts removes nothing of what objects in the making are.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from lfscp.archive.errors import ArchiveError, ArchiveInUseError, not_writable

LOCK_FILE: Final = "lfscp.lock"
_ATTEMPTS: Final = 5
_PAUSE_S: Final = 0.02  # a look takes microseconds
COMMANDS_FILE: Final = "commands.lock"
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
    if not _is_taken(descriptor):
        os.close(descriptor)
        raise ArchiveInUseError(
            "open the archive",
            f"another node uses {data_dir}",
            "stop it, or set another data_dir",
        ) from None
    return descriptor


def _is_taken(descriptor: int) -> bool:
    """Take the lock, also if somebody just looks whether it is taken."""
    for left in reversed(range(_ATTEMPTS)):
        with suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        if left:
            time.sleep(_PAUSE_S)
    return False


def join_node(data_dir: Path) -> int | None:
    """Begin to work in the folder beside the node that runs.

    Who may write to the folder may do so: the user of the node, whom commands ask root to be.

    Returns:
        A descriptor to hold while the work lasts; None if no node runs.
    Raises:
        ArchiveInUseError: a node is just starting.
        ArchiveError: the folder cannot be written to.
    """
    if not is_in_use(data_dir):
        return None
    try:
        descriptor = _open_commands(data_dir)
    except OSError as error:
        raise not_writable("open the archive", error, data_dir, "") from None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise ArchiveInUseError(
            "open the archive", f"a node is just starting in {data_dir}", "try again"
        ) from None
    return descriptor


@contextmanager
def without_commands(data_dir: Path) -> Iterator[bool]:
    """Keep commands from beginning; whether none is at work."""
    descriptor = _open_commands(data_dir)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            yield False
        else:
            yield True
    finally:
        os.close(descriptor)


def is_in_use(data_dir: Path) -> bool:
    """Whether a node has the folder."""
    try:
        descriptor = os.open(data_dir / LOCK_FILE, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(descriptor)
    return False


def _open_commands(data_dir: Path) -> int:
    return os.open(data_dir / COMMANDS_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
