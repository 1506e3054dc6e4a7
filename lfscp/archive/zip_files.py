"""Unpacks the files in a ZIP one after another, each for as long as it is looked at.

Rules: memory is bounded whatever the ZIP says of itself. An entry unpacks to no more than it
states, which must fit on the disk, and a large one to at most 500 times its size. Entries may not
overlap. Names are shown and never used as paths. A file that is not DICOM is unpacked no further
than its beginning. A ZIP in a ZIP is not opened.
"""

from __future__ import annotations

import io
import os
import shutil
import struct
import uuid
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from lfscp.archive.errors import OutOfResourcesError
from lfscp.dicom.errors import DatasetError
from lfscp.dicom.part10.media import NotDicomError, could_be_dicom
from lfscp.errors import OperationError

if TYPE_CHECKING:
    from lfscp.archive.archive import Archive

_BEGINNINGS: Final = (b"PK\x03\x04", b"PK\x05\x06")  # the first entry; an empty ZIP's end
_MAX_DIRECTORY_BYTES: Final = 4 << 20  # of the list of entries: some 50,000
_PIECE: Final = 1 << 20
_MEGABYTE: Final = 1_000_000
_SMALL_BYTES: Final = 256 * _MEGABYTE  # may unpack to any multiple of its size
_MAX_RATIO: Final = 500
_METHODS: Final = (
    zipfile.ZIP_STORED,
    zipfile.ZIP_DEFLATED,
)  # of others none knows how far they grow
_IS_ENCRYPTED: Final = 0x0001
_BROKEN: Final = (
    zipfile.BadZipFile,
    NotImplementedError,  # of zipfile, for what it does not read
    RuntimeError,  # of zipfile, for what is encrypted
    EOFError,
    ValueError,
    struct.error,
    zlib.error,
)


@dataclass(frozen=True, slots=True)
class ZipEntry:
    """One file of a ZIP.

    Args:
        name: as the ZIP has it, without what could steer a terminal.
        path: of the unpacked file, until the next entry is asked for; None when it was refused.
        problem: why it was refused.
    """

    name: str
    path: Path | None = None
    problem: OperationError | None = None


def is_zip(beginning: bytes) -> bool:
    """Whether a file that begins so is a ZIP, and no DICOM file with a ZIP's first bytes before it.

    Args:
        beginning: 132 bytes are enough.
    """
    return beginning[:4] in _BEGINNINGS and beginning[128:132] != b"DICM"


def entries(file: Path, archive: Archive, max_bytes: int = 0) -> Iterator[ZipEntry]:
    """The files in a ZIP.

    Args:
        archive: in whose incoming folder they are unpacked.
        max_bytes: of one file; 0 for no limit but the disk's.
    Raises:
        DatasetError: it is no sound ZIP, or an attack.
        OSError: it cannot be read.
    """
    with _LimitedFile(file) as stream:
        try:
            opened = zipfile.ZipFile(stream)
        except _BROKEN:
            raise DatasetError("the ZIP is damaged, incomplete or too large") from None
        with opened:
            infos = [info for info in opened.infolist() if not info.is_dir()]
            if sum(info.compress_size for info in infos) > file.stat().st_size:
                raise DatasetError("the entries of the ZIP overlap")
            if not infos:
                raise DatasetError("the ZIP holds no file")
            for info in infos:
                yield from _entry(opened, info, archive, max_bytes)


class _NoPlace(zipfile.BadZipFile, OSError):  # noqa: N818 - says what it is
    """A ZIP names a position that no file has; zipfile asks for one before a small ZIP."""


class _LimitedFile(io.FileIO):
    """Limits the only read of a ZIP whose length the ZIP itself decides: the list of entries.

    A position outside the file is damage of the ZIP, no fault of the disk.
    """

    def seek(self, position: int, whence: int = 0, /) -> int:
        """Go to a place."""
        try:
            return super().seek(position, whence)
        except (OSError, OverflowError):
            raise _NoPlace from None

    def read(self, size: int | None = -1, /) -> bytes:
        """Read at most so many bytes."""
        if size is None or size < 0:  # the end, where a comment may stand
            size = _MAX_DIRECTORY_BYTES
        if size > _MAX_DIRECTORY_BYTES:
            raise zipfile.BadZipFile
        return super().read(size) or b""


def _entry(
    opened: zipfile.ZipFile, info: zipfile.ZipInfo, archive: Archive, max_bytes: int
) -> Iterator[ZipEntry]:
    name = "".join(each if each.isprintable() else "\ufffd" for each in info.filename)
    path = archive.incoming_dir / f"zip-{uuid.uuid4().hex}"
    try:
        try:
            _require_readable(info, max_bytes)
            archive.space.require_for(info.file_size)
            _unpack(opened, info, path)
        except OperationError as error:
            yield ZipEntry(name, problem=error)
        except _BROKEN:
            yield ZipEntry(name, problem=DatasetError("it cannot be unpacked, the ZIP is damaged"))
        except OSError as error:
            reason = error.strerror or "it cannot be unpacked"
            yield ZipEntry(name, problem=OutOfResourcesError("unpack the file", reason))
        else:
            yield ZipEntry(name, path)
    finally:
        path.unlink(missing_ok=True)


def _require_readable(info: zipfile.ZipInfo, max_bytes: int) -> None:
    if info.flag_bits & _IS_ENCRYPTED:
        raise DatasetError("it is encrypted")
    if info.compress_type not in _METHODS:
        raise DatasetError("it is compressed in another way than by deflate")
    size = info.file_size
    if size > _SMALL_BYTES and size > _MAX_RATIO * info.compress_size:
        raise DatasetError(f"it unpacks to more than {_MAX_RATIO} times its size")
    if max_bytes and size > max_bytes:
        limit = f"{max_bytes // _MEGABYTE} MB (storage.max_object_mb)"
        raise DatasetError(f"it is larger than {limit}")


def _unpack(opened: zipfile.ZipFile, info: zipfile.ZipInfo, path: Path) -> None:
    with opened.open(info) as stream:
        piece = stream.read(_PIECE)
        if is_zip(piece):
            raise NotDicomError("a ZIP in a ZIP, which is not opened")
        if not could_be_dicom(piece):
            raise NotDicomError("no DICOM file")
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o640)
        with open(descriptor, "wb") as file:
            file.write(piece)
            shutil.copyfileobj(stream, file, _PIECE)
