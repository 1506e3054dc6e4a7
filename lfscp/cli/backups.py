"""`lfscp backup`, `restore` and `check --rebuild`: an archive's copies, and its index made anew."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from lfscp.archive.archive import INDEX_FILE, OBJECTS
from lfscp.archive.errors import ArchiveInUseError
from lfscp.archive.index.database import sqlite_path, sqlite_url
from lfscp.archive.index.objects_identity import known_by_file
from lfscp.archive.upkeep.check import Finding
from lfscp.cli.archive import require_index
from lfscp.cli.failures import CommandError
from lfscp.cli.terminal import tell
from lfscp.node.parts import open_archive

if TYPE_CHECKING:
    from lfscp.archive.archive import Archive
    from lfscp.config import Settings

_BROUGHT = ("linked", "copied", "kept", "dropped")


def back_up(settings: Settings, target: Path, *, copy: bool, verify: bool, replace: bool) -> int:
    """Back up the archive, also while its node runs; exit code 1 when an object is damaged.

    Raises:
        CommandError: index or objects are not files of this machine.
        ArchiveError: it cannot be done.
    """
    from lfscp.archive.upkeep.backup import backup

    index, objects = _places(settings)
    if target.resolve().is_relative_to(settings.data_dir.resolve()):
        raise CommandError(
            f"{target} is inside the data folder, with which it would be lost; choose another"
        )
    report = backup(index, objects, target, copy=copy, verify=verify, replace=replace, tell=tell)
    manifest = report.manifest
    size = f"{manifest.objects} objects, {manifest.bytes / 1e6:.1f} MB"
    sys.stdout.write(f"{size} in {target}: {_counted(report.counts)}\n")
    if manifest.problems:
        sys.stdout.write(f"{manifest.problems} of them missing or damaged, see `lfscp check`\n")
    return 1 if manifest.problems else 0


def _counted(counts: Counter[str]) -> str:
    return ", ".join(f"{counts[name]} {name}" for name in _BROUGHT if counts[name]) or "nothing"


def _places(settings: Settings) -> tuple[Path, Path]:
    """The file of the index and the folder of the objects."""
    index = sqlite_path(settings.index.url) if settings.index.url else None
    if settings.index.url and index is None:
        raise CommandError(
            "the index is in PostgreSQL: back it up with pg_dump; this command copies files only"
        )
    if settings.objects.url and not settings.objects.url.startswith("file:"):
        raise CommandError(
            "the objects are in a bucket: let the S3 service keep versions or copies of them"
        )
    data = settings.data_dir
    return index or data / INDEX_FILE, settings.objects.root or data / OBJECTS


def restore_backup(settings: Settings, source: Path, *, link: bool) -> int:
    """Fill an empty data folder from a backup and check it; exit code 1 when something is wrong.

    Raises:
        CommandError, ArchiveError: it cannot be done.
    """
    from lfscp.archive.upkeep.check import check
    from lfscp.archive.upkeep.restore import restore

    index, objects = _places(settings)
    try:
        manifest = restore(
            source, settings.data_dir, index=index, objects=objects, link=link, tell=tell
        )
    except ArchiveInUseError as error:
        raise CommandError(f"{error.reason}; stop the node first") from error
    found = 0
    with open_archive(settings) as archive:
        for finding in check(archive):
            found += 1
            tell(str(finding))
    tell(f"{manifest.objects} objects as of {manifest.made_at} are in {settings.data_dir}")
    tell(f"{found} of them missing or damaged" if found else "index and objects agree")
    return 1 if found else 0


def rebuild_index(settings: Settings) -> int:
    """Make the index anew from the objects.

    Raises:
        CommandError, ArchiveError: it cannot be done.
    """
    from lfscp.archive.upkeep.rebuild import rebuild

    if settings.index.url and sqlite_path(settings.index.url) is None:
        raise CommandError(
            "for an index in PostgreSQL make an empty database and run `lfscp check --repair`"
        )
    require_index(settings, to_rebuild=True)
    index = sqlite_path(settings.index.url) if settings.index.url else None
    index = index or settings.data_dir / INDEX_FILE
    instances = 0

    def open_with(file: Path) -> Archive:
        section = settings.index.model_copy(update={"url": sqlite_url(file)})
        lost = settings.model_copy(update={"index": section})
        return open_archive(lost, objects_id=known_by_file(index))

    try:
        for found in rebuild(index, open_with):
            if isinstance(found, Finding):
                tell(str(found))
            else:
                tell(f"the old index is kept as {found}")
    except ArchiveInUseError as error:
        raise CommandError(f"{error.reason}; stop the node first") from error
    with open_archive(settings) as archive:
        instances = archive.statistics().instances
    tell(f"{instances} instances indexed")
    return 0
