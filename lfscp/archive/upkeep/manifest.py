"""The manifest of a backup: what its folder holds, once the backup is complete."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from lfscp.archive.errors import ArchiveError
from lfscp.archive.store.digest import algorithm_of, digest_of_file

MANIFEST: Final = "backup.json"
OBJECTS: Final = "objects"
FORMAT: Final = 1


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a backup holds.

    Args:
        made_at: when the index was copied, ISO 8601 in UTC.
        index: name of its file in the backup's folder, and `index_digest` that file's digest.
        bytes: of the objects.
        problems: objects that were missing or damaged at the source.
        archive: whose backup it is, see `archive_id`; empty when that is not known.
    """

    format: int
    made_at: str
    index: str
    index_digest: str
    objects: int
    bytes: int
    problems: int
    archive: str = ""


def read_manifest(folder: Path) -> Manifest:
    """Read and check the manifest of a backup.

    Raises:
        ArchiveError: the folder holds no complete backup.
    """
    file = folder / MANIFEST
    try:
        manifest = Manifest(**json.loads(file.read_text(encoding="utf-8")))
        index = folder / Path(manifest.index).name
        found = digest_of_file(index, 0, algorithm_of(manifest.index_digest))
    except FileNotFoundError as error:
        raise ArchiveError(
            "read the backup",
            f"there is no {Path(error.filename).name} in {folder}",
            "it is no backup, or one that was interrupted",
        ) from None
    except (OSError, ValueError, TypeError, KeyError):
        raise ArchiveError("read the backup", f"{file} cannot be read") from None
    if manifest.format != FORMAT:
        raise ArchiveError("read the backup", f"format {manifest.format}", "use a newer lfscp")
    if found != manifest.index_digest:
        raise ArchiveError("read the backup", f"{index} is damaged: another digest")
    return manifest
