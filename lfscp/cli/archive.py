"""Commands that open the archive themselves, while no node uses it: import and check."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from lfscp.archive.archive import INDEX_FILE, OBJECTS
from lfscp.archive.data_folder import require_whole
from lfscp.archive.errors import ArchiveInUseError
from lfscp.archive.index.database import sqlite_path, sqlite_url
from lfscp.cli.failures import CommandError
from lfscp.cli.terminal import printable, tell
from lfscp.config import ConfigError
from lfscp.node.parts import open_archive, warn_of_lost_index

if TYPE_CHECKING:
    from lfscp.archive.archive import Archive
    from lfscp.config import Settings


def _open(settings: Settings) -> Archive:
    try:
        return open_archive(settings)
    except ArchiveInUseError as error:
        raise CommandError(f"{error.reason}; stop the node first") from error


def require_index(settings: Settings, *, to_rebuild: bool = False) -> None:
    """Refuse an archive that is not there: opening it would make an empty one.

    Args:
        to_rebuild: objects without an index are enough.
    Raises:
        CommandError: there is no index.
        ArchiveError: it is the folder of a restore that did not end.
    """
    index = sqlite_path(settings.index.url or sqlite_url(settings.data_dir / INDEX_FILE))
    if index is None or index.is_file():
        return
    require_whole(settings.data_dir)
    objects = settings.objects.root or settings.data_dir / OBJECTS
    has_objects = settings.objects.is_bucket or any(objects.glob("*/*/*.dcm"))
    if has_objects and to_rebuild:
        return
    lost = ", or make it anew with `lfscp check --rebuild`" if has_objects else ""
    raise CommandError(f"there is no index {index}; check data_dir and index.url{lost}")


def import_files(settings: Settings, folder: Path) -> int:
    """Store every DICOM file under `folder`; exit code 0 when all that are DICOM were stored.

    Each file that is not stored is named with its reason, and so is what is odd about one that is.

    Args:
        folder: or a file, a ZIP among them; of a DICOMDIR, what it lists.
    Raises:
        ConfigError: there is no such folder.
        CommandError, ArchiveError: nothing can be imported at all, or the disk is full.
    """
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

    if not folder.exists():
        raise ConfigError(f"{folder}: there is no such file or folder")
    from lfscp.cli.dicomdir import find_files
    from lfscp.cli.importing import FAILED, Importer

    files = list(find_files(folder))
    archive = _open(settings)
    warn_of_lost_index(archive)
    counts: Counter[str] = Counter()
    importer = Importer(settings, archive)
    columns = ("importing", BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    try:
        console = Console(stderr=True)
        hidden = not console.is_terminal  # in a pipe or a file a bar leaves but an empty line
        with Progress(*columns, console=console, transient=True, disable=hidden) as progress:
            task = progress.add_task("importing", total=len(files))
            for file in files:
                for outcome in importer.outcomes(file):
                    counts[outcome.counted_as] += 1
                    if outcome.remark:
                        line = printable(f"{outcome.name}: {outcome.remark}")
                        progress.console.print(line, markup=False, highlight=False, soft_wrap=True)
                progress.advance(task)
    finally:
        importer.end()
        archive.close()
    sys.stdout.write(_summary(counts))
    return 1 if counts[FAILED] else 0


def _summary(counts: Counter[str]) -> str:
    named = ("stored", "replaced", "identical", "kept", "no DICOM object", "failed")
    parts = [f"{counts[name]} {name}" for name in named if counts[name] or name == "stored"]
    return ", ".join(parts) + "\n"


def check_archive(settings: Settings, *, repair: bool) -> int:
    """Compare index and objects, print each finding; exit code 1 when something is left wrong.

    Raises:
        CommandError, ArchiveError: the archive cannot be opened.
    """
    from lfscp.archive.upkeep.check import check, has_lost_index

    require_index(settings)
    archive = _open(settings)
    found = repaired = 0
    try:
        remedy = "rebuild" if has_lost_index(archive) and not archive.index.is_shared else "repair"
        for finding in check(archive, repair=repair):
            found += 1
            repaired += finding.repaired
            tell(str(finding))
    finally:
        archive.close()
    sys.stdout.write(_verdict(found, repaired, remedy if not repair else ""))
    return 1 if repaired < found else 0


def _verdict(found: int, repaired: int, remedy: str) -> str:
    if not found:
        return "index and objects agree\n"
    problems = "1 problem" if found == 1 else f"{found} problems"
    if remedy == "rebuild":
        return (
            f"{problems} found, the index is empty: run `lfscp check --rebuild` to make it anew\n"
        )
    if remedy:
        return f"{problems} found, run `lfscp check --{remedy}` to mend them\n"
    if repaired < found:
        return f"{problems} found, {repaired} repaired\n"
    return f"{problems} repaired\n"
