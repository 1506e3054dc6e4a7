"""De-identifies the files of a folder into another one, and counts what became of them.

Rules: a file is written under a name for files that are not complete, and gets its own when it is.
The name is made of the new UIDs, so nothing of the old name is in it. A file is mapped into memory
and written piece by piece, so that a large one needs no more memory than a small one.
"""

from __future__ import annotations

import mmap
import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from lfscp.cli.errors import CommandError, OptionError
from lfscp.cli.terminal import progress_bar, tell
from lfscp.deidentification.deidentifier import Deidentified, Deidentifier
from lfscp.deidentification.errors import HeldBackError
from lfscp.dicom.errors import DatasetError
from lfscp.dicom.part10.media import MediaFile, could_be_dicom, read_media
from lfscp.services.deidentifying import deidentified

_WRITTEN: Final = "de-identified"
_HELD_BACK: Final = "held back"
_NO_OBJECT: Final = "no DICOM object"
_FAILED: Final = "failed"
_SUMMARY: Final = (_WRITTEN, _HELD_BACK, _NO_OBJECT, _FAILED)
_INCOMPLETE: Final = ".incomplete"
_BEGINNING: Final = 132  # bytes that tell whether a file may be DICOM


def deidentify_files(deidentifier: Deidentifier, source: Path, target: Path) -> int:
    """De-identify a file or all files below a folder; gives the exit code.

    Args:
        target: folder of the new files, in folders of study and series.
    Raises:
        OptionError: there is no such file or folder, or one is in the other.
        CommandError: the target cannot be written.
    """
    if not source.exists():
        raise OptionError(f"{source}: there is no such file or folder")
    if source.is_dir() and _is_below(source, target):
        raise OptionError(f"{source} is in {target}, or is the same; choose another folder")
    files = list(_files(source, target))
    counts: Counter[str] = Counter()
    writer = _Writer(deidentifier, target)
    with progress_bar("de-identifying") as show:
        for done, file in enumerate(files, 1):
            outcome, reason = writer.outcome(file)
            counts[outcome] += 1
            show(done, len(files), f"{file}: {outcome}: {reason}" if reason else "")
    shown = (f"{counts[name]} {name}" for name in _SUMMARY if counts[name] or name == _WRITTEN)
    tell(", ".join(shown))
    return 1 if counts[_HELD_BACK] or counts[_FAILED] else 0


def _is_below(path: Path, folder: Path) -> bool:
    return path.resolve().is_relative_to(folder.resolve())


def _files(source: Path, target: Path) -> Iterator[Path]:
    if not source.is_dir():
        yield source
        return
    for parent, folders, names in os.walk(source):
        folders[:] = sorted(name for name in folders if not _is_below(Path(parent, name), target))
        for name in sorted(names):
            path = Path(parent, name)
            if path.is_file() or path.is_symlink():  # reading a pipe would wait for ever
                yield path


def _media(content: mmap.mmap) -> MediaFile:
    view = memoryview(content)
    try:
        return read_media(view)
    except DatasetError as error:
        reason = error.reason
    finally:
        view.release()
    raise HeldBackError(reason)


class _Writer:
    def __init__(self, deidentifier: Deidentifier, target: Path) -> None:
        self._deidentifier = deidentifier
        self._target = target
        self._written: set[Path] = set()

    def outcome(self, file: Path) -> tuple[str, str]:
        """What became of a file, and why if it was not de-identified."""
        try:
            with file.open("rb") as stream:
                if not could_be_dicom(stream.read(_BEGINNING)):
                    return _NO_OBJECT, ""
                with mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as content:
                    media = _media(content)
            return self._of(file, media)
        except HeldBackError as error:
            return _HELD_BACK, error.reason
        except OSError as error:
            return _FAILED, error.strerror or str(error)

    def _of(self, file: Path, media: MediaFile) -> tuple[str, str]:
        syntax, offset = media.transfer_syntax_uid, media.dataset_offset
        with deidentified(self._deidentifier, file, syntax, offset) as found:
            path = self._path(found)
            if path in self._written:
                return _FAILED, "another file has the same SOP Instance UID"
            self._write(found, path)
            self._written.add(path)
        return _WRITTEN, ""

    def _path(self, found: Deidentified) -> Path:
        folder = self._target / found.study_instance_uid / found.series_instance_uid
        return folder / f"{found.sop_instance_uid}.dcm"

    def _write(self, found: Deidentified, path: Path) -> None:
        incomplete = path.with_suffix(_INCOMPLETE)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with incomplete.open("wb", buffering=0) as stream:
                for piece in found.file():
                    _write_all(stream.fileno(), piece)
            incomplete.replace(path)
        except OSError as error:
            incomplete.unlink(missing_ok=True)
            raise CommandError(f"{path}: {error.strerror}") from error


def _write_all(file: int, piece: memoryview) -> None:
    """Write all of it; a call to the system may write less."""
    while piece:
        piece = piece[os.write(file, piece) :]
