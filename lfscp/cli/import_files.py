"""Stores the files of `lfscp import`, or says why a file cannot be stored.

Rules: if a file cannot be stored, it is named with the reason, and the others are stored all the
same. The files of a ZIP are imported one by one.
"""

from __future__ import annotations

import os
import socket
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

from lfscp.archive.errors import OutOfResourcesError
from lfscp.archive.store_file import store_file
from lfscp.archive.zip_files import entries, is_zip
from lfscp.cli.dicomdir import FoundFile, files_to_import
from lfscp.cli.errors import OptionError
from lfscp.cli.stopped_node import open_beside_or_stopped
from lfscp.cli.terminal import progress_bar, tell
from lfscp.dicom.part10.media import NotDicomError
from lfscp.errors import OperationError
from lfscp.node.parts import begin_trail, warn_of_lost_index
from lfscp.observe import audit
from lfscp.observe.logging import get_logger
from lfscp.services.audit_events import Patients, ReceivedObjects
from lfscp.services.contexts import require_stored_class

if TYPE_CHECKING:
    from lfscp.archive.archive import Archive
    from lfscp.config import Settings

LOG: Final = get_logger("lfscp.archive")
_FAILED: Final = "failed"
_NO_OBJECT: Final = "no DICOM object"
_SUMMARY: Final = ("stored", "replaced", "identical", "kept", _NO_OBJECT, _FAILED)
_MEGABYTE: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class FileOutcome:
    """The outcome of one file.

    Args:
        counted_as: a word of the summary; empty if the file does not count.
        name: of the file, as the user knows it.
        remark: for the user; empty for none.
    """

    counted_as: str
    name: str
    remark: str = ""


def import_files(settings: Settings, folder: Path) -> int:
    """Store every DICOM file below a folder; gives the exit code, 0 if all of them were stored.

    Files that are not stored, or are odd, are named with the reason.

    Args:
        folder: or a file, a ZIP, or a DICOMDIR, which stands for the files that it lists.
    Raises:
        OptionError: there is no such folder.
        CommandError, ArchiveError: nothing can be imported at all, or the disk is full.
    """
    if not folder.exists():
        raise OptionError(f"{folder}: there is no such file or folder")
    files = list(files_to_import(folder))
    counts: Counter[str] = Counter()
    archive, _ = open_beside_or_stopped(settings)
    with archive:
        warn_of_lost_index(archive)
        importer = _Importer(settings, archive)
        try:
            with progress_bar("importing") as show:
                for done, file in enumerate(files, 1):
                    for outcome in importer.outcomes(file):
                        counts[outcome.counted_as] += 1
                        if outcome.remark:
                            show(done - 1, len(files), f"{outcome.name}: {outcome.remark}")
                    show(done, len(files), "")
        finally:
            importer.end()
    tell(
        ", ".join(f"{counts[name]} {name}" for name in _SUMMARY if counts[name] or name == "stored")
    )
    return 1 if counts[_FAILED] else 0


class _Importer:
    """Stores files, and records them in the audit trail under the user who runs this."""

    def __init__(self, settings: Settings, archive: Archive) -> None:
        begin_trail(settings)
        peer = audit.AuditedPeer(f"uid {os.getuid()}", socket.gethostname())
        self._trail = ReceivedObjects(peer, Patients(archive))
        self._archive = archive
        self._require_class = partial(require_stored_class, settings)
        self._max_bytes = settings.storage.max_object_mb * _MEGABYTE

    def end(self) -> None:
        self._trail.write()
        audit.stop()

    def outcomes(self, found: FoundFile) -> Iterator[FileOutcome]:
        """Store a file, or each file in a ZIP."""
        name = str(found.path)
        if found.problem or found.is_directory:
            yield FileOutcome(_FAILED if found.problem else "", name, found.problem or found.remark)
            return
        try:
            with found.path.open("rb") as stream:
                beginning = stream.read(132)
        except OSError as error:
            yield _unreadable(name, error)
            return
        if is_zip(beginning):
            yield from self._zip(found.path)
            return
        outcome = self._store(found.path, name)
        if outcome.counted_as == _NO_OBJECT and found.remark:
            yield FileOutcome(_NO_OBJECT, name)  # a DICOMDIR beside it does not list it
        else:
            yield FileOutcome(outcome.counted_as, name, outcome.remark or found.remark)

    def _zip(self, file: Path) -> Iterator[FileOutcome]:
        try:
            for entry in entries(file, self._archive, self._max_bytes):
                name = f"{file}/{entry.name}"
                if entry.path is not None:
                    yield self._store(entry.path, name, is_ours=True)
                elif entry.problem is not None:
                    yield _refused(name, entry.problem)
        except OutOfResourcesError:
            raise
        except OperationError as error:
            yield _refused(str(file), error)
        except OSError as error:
            yield _unreadable(str(file), error)

    def _store(self, path: Path, name: str, *, is_ours: bool = False) -> FileOutcome:
        try:
            found = store_file(
                self._archive, path, require_class=self._require_class, is_ours=is_ours
            )
        except OperationError as error:
            return _refused(name, error)
        except OSError as error:
            return _unreadable(name, error)
        except Exception as error:
            LOG.error("import failed unexpectedly", file=name, exc_info=error)  # noqa: TRY400
            return FileOutcome(_FAILED, name, "internal error, see the log")
        self._trail.stored(found.stored, found.sop_class_uid)
        return FileOutcome(found.stored.outcome.value, name, "; ".join(found.notes))


def _unreadable(name: str, error: OSError) -> FileOutcome:
    return FileOutcome(_FAILED, name, error.strerror or str(error))


def _refused(name: str, error: OperationError) -> FileOutcome:
    if isinstance(error, OutOfResourcesError):
        raise error  # the next file would fail as well
    return FileOutcome(
        _NO_OBJECT if isinstance(error, NotDicomError) else _FAILED, name, error.reason
    )
