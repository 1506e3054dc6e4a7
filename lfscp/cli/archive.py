"""Commands that open the archive themselves, while no node uses it: import and check."""

from __future__ import annotations

import mmap
import os
import struct
import sys
from collections import Counter
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

from lfscp.archive.errors import ArchiveError, ArchiveInUse, OutOfResources
from lfscp.cli.failures import CommandError

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

    from lfscp.archive.archive import Archive, Stored
    from lfscp.config import Settings

_GROUP_LENGTH_HEAD = (
    b"DICM\x02\x00\x00\x00UL\x04\x00"  # PS3.10 section 7.1: (0002,0000) UL, 4 bytes
)
_PREAMBLE = 128
_MEDIA_STORAGE_DIRECTORY = "1.2.840.10008.1.3.10"  # a DICOMDIR: a list, no object


class _NoObjectError(Exception):
    """A file that cannot be imported; its text says why."""


def open_archive(settings: Settings) -> Archive:
    """Open the archive that `settings` name, as a node does.

    Raises:
        ArchiveError: it cannot be opened; with a hint when a node is using it.
    """
    from lfscp.archive.archive import Archive

    try:
        return Archive.open(
            settings.data_dir,
            index_url=settings.index.url or None,
            objects_root=settings.objects.root,
            durability=settings.durability,
            duplicates=settings.duplicates,
        )
    except ArchiveInUse as error:
        raise CommandError(f"{error}; stop the node first") from error


def import_files(settings: Settings, folder: Path) -> int:
    """Store every DICOM file under `folder`; exit code 0 when all that are DICOM were stored.

    A file that is no DICOM object is passed over; one that is but cannot be stored is reported.

    Raises:
        CommandError, ArchiveError: nothing can be imported at all, or the disk is full.
    """
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

    if not folder.exists():
        raise CommandError(f"{folder}: there is no such folder")
    files = list(_files(folder))
    archive = open_archive(settings)
    counts: Counter[str] = Counter()
    columns = ("importing", BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    try:
        with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
            task = progress.add_task("importing", total=len(files))
            for file in files:
                outcome, problem = _import_file(archive, file)
                counts[outcome] += 1
                if problem:
                    progress.console.print(f"{file}: {problem}", markup=False, highlight=False)
                progress.advance(task)
    finally:
        archive.close()
    sys.stdout.write(_summary(counts))
    return 1 if counts["failed"] else 0


def _summary(counts: Counter[str]) -> str:
    named = ("stored", "replaced", "identical", "kept", "no DICOM object", "failed")
    parts = [f"{counts[name]} {name}" for name in named if counts[name] or name == "stored"]
    return ", ".join(parts) + "\n"


def _files(folder: Path) -> Iterator[Path]:
    if folder.is_file():
        yield folder
    for parent, folders, names in os.walk(folder):
        folders.sort()
        for name in sorted(names):
            yield Path(parent, name)


def _import_file(archive: Archive, file: Path) -> tuple[str, str]:
    """Store one file: (outcome, problem); a problem is what the user should hear about."""
    try:
        return _store(archive, file).outcome.name.lower(), ""
    except _NoObjectError as error:
        return "no DICOM object", str(error)
    except OutOfResources:
        raise  # the next file would fail as well
    except ArchiveError as error:
        return "failed", error.reason
    except OSError as error:
        return "failed", error.strerror or str(error)


def _store(archive: Archive, file: Path) -> Stored:
    from lfscp.archive.archive import Received

    with file.open("rb") as stream:
        meta, offset = _read_file_meta(stream.read(_PREAMBLE + 64 * 1024))
        named = [str(meta.get(key, "")) for key in _META_KEYS]
        if not all(named):
            raise ArchiveError("import the file", "its file meta information names no object")
        if named[0] == _MEDIA_STORAGE_DIRECTORY:
            raise _NoObjectError("")
        with mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
            whole = memoryview(mapped)
            dataset = whole[offset:]
            try:
                return archive.store(
                    Received(
                        sop_class_uid=named[0],
                        sop_instance_uid=named[1],
                        transfer_syntax_uid=named[2],
                        calling_ae_title=str(meta.get("SourceApplicationEntityTitle", "")),
                        dataset=dataset,
                        spooled_path=None,
                        dataset_offset=0,
                    )
                )
            finally:
                dataset.release()
                whole.release()


_META_KEYS = ("MediaStorageSOPClassUID", "MediaStorageSOPInstanceUID", "TransferSyntaxUID")


def _read_file_meta(head: bytes) -> tuple[Dataset, int]:
    """Read the file meta information: (its elements, where the dataset begins).

    Args:
        head: the first bytes of a file, enough for preamble and group 2.
    Raises:
        _NoObjectError: it does not begin as a DICOM file.
        ArchiveError: it does, but the group is broken.
    Source: PS3.10 section 7.1.
    """
    from pydicom.filereader import read_dataset

    if head[_PREAMBLE : _PREAMBLE + 4] != b"DICM":
        raise _NoObjectError("")
    begin = _PREAMBLE + len(_GROUP_LENGTH_HEAD) + 4
    if head[_PREAMBLE : begin - 4] != _GROUP_LENGTH_HEAD or len(head) < begin:
        raise ArchiveError("import the file", "its file meta information has no group length")
    end = begin + int(struct.unpack_from("<L", head, begin - 4)[0])
    if end > len(head):
        raise ArchiveError("import the file", "its file meta information is cut off or too long")
    try:
        return read_dataset(BytesIO(head[begin:end]), False, True), end
    except Exception as error:
        reason = "its file meta information cannot be read"
        raise ArchiveError("import the file", reason) from error


def check_archive(settings: Settings, *, repair: bool) -> int:
    """Compare index and objects, print each finding; exit code 1 when something is left wrong.

    Raises:
        CommandError, ArchiveError: the archive cannot be opened.
    """
    from lfscp.archive.check import check

    archive = open_archive(settings)
    found = 0
    try:
        for finding in check(archive, repair=repair):
            found += 1
            sys.stdout.write(f"{finding}\n")
    finally:
        archive.close()
    done = "repaired" if repair else "found, run `lfscp check --repair` to mend them"
    sys.stdout.write(f"{found} problems {done}\n" if found else "index and objects agree\n")
    return 1 if found and not repair else 0
