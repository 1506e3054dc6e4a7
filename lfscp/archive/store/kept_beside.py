"""Removes what the node has made of objects and keeps beside them, once the objects are gone.

Rules: pictures and metadata hold patient data, so they go with their objects, whoever deletes them:
the page, retention, a command. What another node deletes, or an object filed elsewhere since, the
upkeep finds: see `upkeep.stale_copies`.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Final

from lfscp.archive.store.disk_cache import drop_from
from lfscp.archive.store.files import instance_of

PICTURES: Final = Path("cache/pictures")  # in the data folder
METADATA: Final = Path("cache/metadata")  # of series
_PARTS: Final = 3  # of an object's path
_MARK: Final = "~"  # in no UID


def series_name(study_uid: str, series_uid: str) -> str:
    """The name under which the metadata of a series are kept."""
    return f"{study_uid}|{series_uid}"


def part_of(sop_instance_uid: str, name: str) -> str:
    """What follows in the name of a file in a cache, so that it says of which object it is."""
    return f"{_MARK}{sop_instance_uid}{_MARK}{name}"


def uid_in(file_name: str) -> str:
    """The SOP Instance UID in the name of such a file; empty if there is none."""
    parts = file_name.split(_MARK)
    return parts[1] if len(parts) == len(("hash", "uid", "name")) else ""


def forget_objects(data_dir: Path, paths: Iterable[str]) -> None:
    """Remove what was made of objects.

    Args:
        paths: of the objects, as the index has them.
    """
    pictures, metadata = data_dir / PICTURES, data_dir / METADATA
    has_pictures, has_metadata = pictures.is_dir(), metadata.is_dir()
    if not has_pictures and not has_metadata:
        return
    of_series: set[str] = set()
    for path in paths:
        if has_pictures:
            drop_from(pictures, instance_of(path))
        parts = path.split("/")
        if len(parts) == _PARTS:
            of_series.add(series_name(parts[0], parts[1]))
    if has_metadata:
        for name in of_series:
            drop_from(metadata, name)
