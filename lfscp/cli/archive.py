"""The commands that need the whole archive: `import`, `check`, `backup`, `restore`.

`import`, `check` and `backup` may run beside the node; no node may use it meanwhile otherwise.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lfscp.cli.errors import CommandError
from lfscp.cli.options import ConfigFile, DataDir, settings_of
from lfscp.cli.stopped_node import (
    index_file,
    objects_folder,
    open_beside_or_stopped,
    open_stopped,
    require_index,
)
from lfscp.cli.terminal import counted, tell

if TYPE_CHECKING:
    from collections.abc import Iterable

    from lfscp.archive.archive import Archive
    from lfscp.archive.upkeep.check import Finding
    from lfscp.config import Settings


def import_(
    folder: Annotated[
        Path,
        typer.Argument(metavar="DIR", help="A folder with everything in it, a file, or a ZIP."),
    ],
    config: ConfigFile = None,
    data_dir: DataDir = None,
) -> None:
    """Store the DICOM files of a folder or a ZIP.

    The node may be running. Run it as the user of the node.
    """
    from lfscp.cli.import_files import import_files

    raise typer.Exit(import_files(settings_of(config, data_dir), folder))


def check(
    config: ConfigFile = None,
    data_dir: DataDir = None,
    repair: Annotated[
        bool, typer.Option("--repair", help="Repair what is found. Without it, nothing is changed.")
    ] = False,
    rebuild: Annotated[
        bool, typer.Option("--rebuild", help="Make a lost or damaged index again from the objects.")
    ] = False,
) -> None:
    """Compare index and objects. With --repair, also repair them.

    The command names what is missing, left over or damaged. The node may be running, except for
    --rebuild. Run it as the user of the node. Beside a node, files of the last minutes that have no
    row are left alone: their objects may be on their way.
    """
    from lfscp.archive.upkeep import check

    settings = settings_of(config, data_dir)
    if rebuild:
        _rebuild_index(settings)
        return
    require_index(settings)
    archive, is_running = open_beside_or_stopped(settings)
    with archive:
        is_lost = check.has_lost_index(archive) and not archive.index.is_shared
        # Other nodes of a shared index may be storing too.
        in_use = is_running or archive.index.is_shared
        young_s = max(check.YOUNG_S, 2 * settings.index.timeout_s) if in_use else 0.0
        found, repaired = _tell_all(check.check(archive, repair=repair, young_s=young_s))
    tell(_verdict(found, repaired, repair=repair, is_lost=is_lost))
    raise typer.Exit(1 if repaired < found else 0)


def backup(
    target: Annotated[
        Path,
        typer.Argument(
            metavar="DIR", help="Folder of the backup. It is made, or brought up to date."
        ),
    ],
    config: ConfigFile = None,
    data_dir: DataDir = None,
    copy: Annotated[
        bool, typer.Option("--copy", help="Copy objects, also where hard links are possible.")
    ] = False,
    verify: Annotated[
        bool, typer.Option("--verify", help="Read the backup and compare every digest.")
    ] = False,
    replace: Annotated[
        bool,
        typer.Option(
            "--replace",
            help="Replace what is in the folder, even another archive's backup or most of this "
            "one's.",
        ),
    ] = False,
) -> None:
    """Back up index and objects into a folder.

    The node may be running.
    """
    from lfscp.archive.upkeep.backup import backup

    settings = settings_of(config, data_dir)
    index, objects = _places(settings)
    if target.resolve().is_relative_to(settings.data_dir.resolve()):
        raise CommandError(
            f"{target} is inside the data folder and would be lost with it; choose another folder"
        )
    report = backup(index, objects, target, copy=copy, verify=verify, replace=replace, tell=tell)
    manifest, counts = report.manifest, report.counts
    done = [
        f"{counts[name]} {name}" for name in ("linked", "copied", "kept", "dropped") if counts[name]
    ]
    size = f"{manifest.objects} objects, {manifest.bytes / 1e6:.1f} MB"
    tell(f"{size} in {target}: {', '.join(done) or 'nothing'}")
    if manifest.problems:
        tell(f"{manifest.problems} of them are missing or damaged; run `lfscp check`")
        raise typer.Exit(1)


def restore(
    source: Annotated[
        Path, typer.Argument(metavar="DIR", help="The folder that `lfscp backup` made.")
    ],
    config: ConfigFile = None,
    data_dir: DataDir = None,
    link: Annotated[
        bool, typer.Option("--link", help="On the same disk, make hard links instead of copies.")
    ] = False,
) -> None:
    """Fill an empty data folder from a backup, and check it.

    No node may use the folder meanwhile.
    """
    from lfscp.archive.errors import ArchiveInUseError
    from lfscp.archive.upkeep.check import check
    from lfscp.archive.upkeep.restore import restore

    settings = settings_of(config, data_dir)
    index, objects = _places(settings)
    try:
        manifest = restore(
            source, settings.data_dir, index=index, objects=objects, link=link, tell=tell
        )
    except ArchiveInUseError as error:
        raise CommandError(f"{error.reason}; stop the node first") from error
    with open_stopped(settings) as archive:
        found, _ = _tell_all(check(archive))
    tell(f"{manifest.objects} objects as of {manifest.made_at} are in {settings.data_dir}")
    tell(f"{found} of them are missing or damaged" if found else "index and objects agree")
    raise typer.Exit(1 if found else 0)


def _tell_all(findings: Iterable[Finding]) -> tuple[int, int]:
    """Print findings; how many there are, and how many of them are repaired."""
    found = repaired = 0
    for finding in findings:
        found += 1
        repaired += finding.repaired
        tell(str(finding))
    return found, repaired


def _verdict(found: int, repaired: int, *, repair: bool, is_lost: bool) -> str:
    if not found:
        return "index and objects agree"
    problems = counted(found, "problem", "problems")
    if repair:
        return f"{problems} {f'found, {repaired} ' if repaired < found else ''}repaired"
    if is_lost:
        return f"{problems} found, the index is empty: run `lfscp check --rebuild` to make it anew"
    return f"{problems} found, run `lfscp check --repair` to mend them"


def _rebuild_index(settings: Settings) -> None:
    from lfscp.archive.index.database.database import sqlite_url
    from lfscp.archive.index.objects_identity import known_by_file
    from lfscp.archive.upkeep.check import Finding
    from lfscp.archive.upkeep.rebuild import rebuild

    index = index_file(settings)
    if index is None:
        raise CommandError(
            "an index in PostgreSQL is not rebuilt here; make an empty database and run "
            "`lfscp check --repair`"
        )
    require_index(settings, to_rebuild=True)

    def open_with(file: Path) -> Archive:
        section = settings.index.model_copy(update={"url": sqlite_url(file)})
        lost = settings.model_copy(update={"index": section})
        return open_stopped(lost, objects_id=known_by_file(index))

    for found in rebuild(index, open_with):
        tell(str(found) if isinstance(found, Finding) else f"the old index is kept as {found}")
    with open_stopped(settings) as archive:
        tell(f"{archive.statistics().instances} instances indexed")


def _places(settings: Settings) -> tuple[Path, Path]:
    """The file of the index and the folder of the objects."""
    index = index_file(settings)
    if index is None:
        raise CommandError(
            "the index is in PostgreSQL: back it up with pg_dump; this command copies files only"
        )
    if settings.objects.is_bucket:
        raise CommandError(
            "the objects are in a bucket: let the S3 service keep versions or copies of them"
        )
    return index, objects_folder(settings)
