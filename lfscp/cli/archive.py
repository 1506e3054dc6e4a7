"""Commands that open the archive themselves, while no node uses it: import and check."""

from __future__ import annotations

import mmap
import os
import socket
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from lfscp.archive.archive import INDEX_FILE, OBJECTS
from lfscp.archive.data_folder import require_whole
from lfscp.archive.database import sqlite_path, sqlite_url
from lfscp.archive.errors import ArchiveError, ArchiveInUse, IdentityMismatch, OutOfResources
from lfscp.assembly import begin_trail, open_archive, warn_of_lost_index
from lfscp.cli.failures import CommandError
from lfscp.config import ConfigError
from lfscp.observe import audit

if TYPE_CHECKING:
    from lfscp.archive.archive import Archive, Stored
    from lfscp.config import Settings
    from lfscp.services.trail import Received

_MEDIA_STORAGE_DIRECTORY = "1.2.840.10008.1.3.10"  # a DICOMDIR: a list, no object
_HEAD = 64 * 1024  # bytes in which the file meta information ends


class _NoObjectError(Exception):
    """A file that is no DICOM object, so that there is nothing to import or to complain about."""


def _open(settings: Settings) -> Archive:
    try:
        return open_archive(settings)
    except ArchiveInUse as error:
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

    A file that is no DICOM object is passed over; one that is but cannot be stored is reported.

    Raises:
        ConfigError: there is no such folder.
        CommandError, ArchiveError: nothing can be imported at all, or the disk is full.
    """
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

    if not folder.exists():
        raise ConfigError(f"{folder}: there is no such file or folder")
    files = list(_files(folder))
    archive = _open(settings)
    warn_of_lost_index(archive)
    counts: Counter[str] = Counter()
    trail = _begin_trail(settings, archive)
    columns = ("importing", BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    try:
        console = Console(stderr=True)
        hidden = not console.is_terminal  # in a pipe or a file a bar leaves but an empty line
        with Progress(*columns, console=console, transient=True, disable=hidden) as progress:
            task = progress.add_task("importing", total=len(files))
            for file in files:
                outcome, problem = _import_file(archive, file, trail)
                counts[outcome] += 1
                if problem:
                    line = f"{_shown(file)}: {problem}"
                    progress.console.print(line, markup=False, highlight=False, soft_wrap=True)
                progress.advance(task)
    finally:
        trail.write()
        audit.stop()
        archive.close()
    sys.stdout.write(_summary(counts))
    return 1 if counts["failed"] else 0


def _begin_trail(settings: Settings, archive: Archive) -> Received:
    """Begin the audit trail in the name of whoever runs this; what is stored goes there."""
    from lfscp.services.trail import Patients, Received

    begin_trail(settings)
    return Received(audit.Peer(f"uid {os.getuid()}", socket.gethostname()), Patients(archive))


def _summary(counts: Counter[str]) -> str:
    named = ("stored", "replaced", "identical", "kept", "no DICOM object", "failed")
    parts = [f"{counts[name]} {name}" for name in named if counts[name] or name == "stored"]
    return ", ".join(parts) + "\n"


def _shown(file: Path) -> str:
    """A path as the terminal may see it: a name can hold escape sequences, or be no UTF-8."""
    text = str(file)
    return text if text.isprintable() else text.encode("unicode_escape").decode("ascii")


def _files(folder: Path) -> Iterator[Path]:
    if folder.is_file():
        yield folder
    for parent, folders, names in os.walk(folder):
        folders.sort()
        for name in sorted(names):
            yield Path(parent, name)


def _import_file(archive: Archive, file: Path, trail: Received) -> tuple[str, str]:
    """Store one file: (outcome, problem); a problem is what the user should hear about."""
    try:
        stored, sop_class_uid = _store(archive, file)
        trail.stored(stored.study_uid, sop_class_uid, stored.size)
        return stored.outcome.name.lower(), ""
    except _NoObjectError:
        return "no DICOM object", ""
    except OutOfResources:
        raise  # the next file would fail as well
    except IdentityMismatch as error:
        where = f"({error.tag >> 16:04X},{error.tag & 0xFFFF:04X})"
        return (
            "failed",
            f"{where} is {error.actual}, its file meta information says {error.expected}",
        )
    except ArchiveError as error:
        return "failed", error.reason
    except OSError as error:
        return "failed", error.strerror or str(error)
    except Exception as error:  # noqa: BLE001 - one odd file must not end the import of the others
        return "failed", f"unexpected {type(error).__name__}"


def _store(archive: Archive, file: Path) -> tuple[Stored, str]:
    from lfscp.archive.archive import Received
    from lfscp.archive.part10 import read_part10

    with file.open("rb") as stream:
        head = stream.read(_HEAD)
        if head[128:132] != b"DICM":
            raise _NoObjectError
        meta = read_part10(head)
        if meta.sop_class_uid == _MEDIA_STORAGE_DIRECTORY:
            raise _NoObjectError
        with mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
            whole = memoryview(mapped)
            dataset = whole[meta.dataset_offset :]
            try:
                stored = archive.store(
                    Received(
                        sop_class_uid=meta.sop_class_uid,
                        sop_instance_uid=meta.sop_instance_uid,
                        transfer_syntax_uid=meta.transfer_syntax_uid,
                        calling_ae_title=meta.source_ae_title,
                        dataset=dataset,
                        spooled_path=None,
                        dataset_offset=0,
                    )
                )
            finally:
                dataset.release()
                whole.release()
    return stored, meta.sop_class_uid


def check_archive(settings: Settings, *, repair: bool) -> int:
    """Compare index and objects, print each finding; exit code 1 when something is left wrong.

    Raises:
        CommandError, ArchiveError: the archive cannot be opened.
    """
    from lfscp.archive.check import check, has_lost_index

    require_index(settings)
    archive = _open(settings)
    found = repaired = 0
    try:
        remedy = "rebuild" if has_lost_index(archive) and not archive.index.is_shared else "repair"
        for finding in check(archive, repair=repair):
            found += 1
            repaired += finding.repaired
            sys.stdout.write(f"{finding}\n")
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
