"""What `lfscp import` does with each file: store it, or say why not.

Rules: one file that cannot be stored keeps no other back, and is named with its reason. The files
of a ZIP are imported one by one.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

from lfscp.archive.errors import OutOfResourcesError
from lfscp.archive.store_file import store_file
from lfscp.archive.zip_files import entries, is_zip
from lfscp.cli.dicomdir import FoundFile
from lfscp.dicom.media import NotDicomError
from lfscp.errors import OperationError
from lfscp.node.parts import begin_trail
from lfscp.observe import audit
from lfscp.observe.logging import get_logger
from lfscp.services.audit_events import Patients, Received
from lfscp.services.contexts import require_stored_class

if TYPE_CHECKING:
    from lfscp.archive.archive import Archive
    from lfscp.config import Settings

LOG: Final = get_logger("lfscp.archive")
FAILED: Final = "failed"
NO_OBJECT: Final = "no DICOM object"
_MEGABYTE: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one file.

    Args:
        counted_as: a word for the summary; empty for what does not count.
        name: of the file, as the user knows it.
        remark: what is to be said of it; empty for nothing.
    """

    counted_as: str
    name: str
    remark: str = ""


class Importer:
    """Stores files; what is stored goes to the audit trail in the name of whoever runs this."""

    def __init__(self, settings: Settings, archive: Archive) -> None:
        begin_trail(settings)
        peer = audit.Peer(f"uid {os.getuid()}", socket.gethostname())
        self._trail = Received(peer, Patients(archive))
        self._archive = archive
        self._require_class = partial(require_stored_class, settings)
        self._max_bytes = settings.storage.max_object_mb * _MEGABYTE

    def end(self) -> None:
        """Write the rest of the audit trail."""
        self._trail.write()
        audit.stop()

    def outcomes(self, found: FoundFile) -> Iterator[Outcome]:
        """Store a file, or each that it holds, or say what it is.

        Raises:
            OutOfResourcesError: the next file would fail as well.
        """
        name = str(found.path)
        if found.problem or found.is_directory:
            yield Outcome(FAILED if found.problem else "", name, found.problem or found.remark)
            return
        try:
            with found.path.open("rb") as stream:
                beginning = stream.read(132)
        except OSError as error:
            yield Outcome(FAILED, name, error.strerror or str(error))
            return
        if is_zip(beginning):
            yield from self._zip(found.path)
            return
        outcome = self._store(found.path, name)
        if outcome.counted_as == NO_OBJECT and found.remark:
            yield Outcome(NO_OBJECT, name)  # beside a DICOMDIR that does not list it
        elif found.remark and not outcome.remark:
            yield Outcome(outcome.counted_as, name, found.remark)
        else:
            yield outcome

    def _zip(self, file: Path) -> Iterator[Outcome]:
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
            yield Outcome(FAILED, str(file), error.strerror or str(error))

    def _store(self, path: Path, name: str, *, is_ours: bool = False) -> Outcome:
        try:
            found = store_file(
                self._archive, path, require_class=self._require_class, is_ours=is_ours
            )
        except OperationError as error:
            return _refused(name, error)
        except OSError as error:
            return Outcome(FAILED, name, error.strerror or str(error))
        except Exception as error:
            LOG.error("import failed unexpectedly", file=name, exc_info=error)  # noqa: TRY400
            return Outcome(FAILED, name, "internal error, see the log")
        stored = found.stored
        self._trail.stored(stored, found.sop_class_uid)
        return Outcome(stored.outcome.value, name, "; ".join(found.notes))


def _refused(name: str, error: OperationError) -> Outcome:
    if isinstance(error, OutOfResourcesError):
        raise error  # the next file would fail as well
    return Outcome(NO_OBJECT if isinstance(error, NotDicomError) else FAILED, name, error.reason)
