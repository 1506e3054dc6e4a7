"""Moves a damaged object's file to the quarantine, and destroys nothing.

The file leaves the objects' tree. Its row stays unless somebody removes it, and then names a
missing file: a retrieve fails for this object, and the object is healed when it is sent again. So a
damaged object is not served, and sending needs no check of each object.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from lfscp.archive.archive import Archive

QUARANTINE: Final = "quarantine"  # in the data folder


def put_aside(archive: Archive, path: str) -> Path:
    """Move an object's file to the quarantine, beside one of its name that is there already.

    Args:
        path: as in the index.
    Returns:
        Where it is now.
    Raises:
        OSError: it cannot be moved.
    """
    target = archive.data_dir / QUARANTINE / path
    number = 0
    while target.exists():
        number += 1
        target = target.with_name(f"{Path(path).name}.{number}")
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.move(archive.files.path(path), target)  # may cross file systems
    archive.files.remove(path)  # its folders, when they are empty now
    return target


def is_aside(archive: Archive, path: str) -> bool:
    """Whether a file of this path was put aside."""
    return (archive.data_dir / QUARANTINE / path).exists()
