"""Records of objects that come in and of what became of them, and how these are read.

A received object is in memory or in a spooled file; the functions here read both alike, with
bounded memory.
"""

from __future__ import annotations

import contextlib
import mmap
import os
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Final

from lfscp.archive.errors import IdentityMismatchError, OutOfResourcesError
from lfscp.archive.store.digest import digest_of, digest_of_file
from lfscp.archive.store.object_store import StoredFile
from lfscp.archive.store.stored_head import read_head
from lfscp.dicom.errors import DatasetError
from lfscp.dicom.reading.header import (
    SOP_CLASS_UID,
    SOP_INSTANCE_UID,
    Header,
    invalid_start,
    read_header,
)

_COMPARED: Final = 1 << 20  # bytes compared at a time


class Duplicates(str, Enum):  # noqa: UP042 - as attributes.Level
    """What to do with an instance that is there already with other content."""

    KEEP = "keep"
    REPLACE = "replace"
    REJECT = "reject"


class StoreOutcome(Enum):
    """How a store ended; each is a success."""

    STORED = "stored"
    IDENTICAL = "identical"  # the same bytes are there already
    KEPT = "kept"  # other bytes are there already and stay
    REPLACED = "replaced"


@dataclass(frozen=True, slots=True)
class Received:
    """An object to store: its dataset in memory, or a complete Part 10 file that holds it.

    Args:
        dataset: the encoded dataset; None when it is only in the file.
        spooled_path: a file of it in `Archive.incoming_dir`, which the archive takes over on
            success; None when there is none yet.
        dataset_offset: bytes in that file before the dataset.
        spooled_descriptor: of that file while the caller has it open, and removes its name after
            the answer to the sender. -1: the file is handed over to the archive.
        header: what `header.read_first` gave while it was received.
        called_ae_title: by which the sender called this node; empty if it did not come by DIMSE.
        address: IP address of the sender; empty if there is none.
    """

    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax_uid: str
    calling_ae_title: str = ""
    dataset: bytes | memoryview | None = None
    spooled_path: str | Path | None = None
    dataset_offset: int = 0
    spooled_descriptor: int = -1
    header: Header | None = None
    called_ae_title: str = ""
    address: str = ""

    @property
    def is_handed_over(self) -> bool:
        """Whether the spooled file's name is the archive's to remove."""
        return self.spooled_path is not None and self.spooled_descriptor < 0


@dataclass(frozen=True, slots=True)
class Stored:
    """A stored object.

    Args:
        study_uid: the study that it names, as `series_uid` names the series.
        size: bytes of the dataset.
        notes: what was odd, fit for the log; no patient data.
        header: what the object says of itself.
    """

    outcome: StoreOutcome
    study_uid: str
    series_uid: str
    size: int
    notes: tuple[str, ...] = ()
    header: Header | None = None


@dataclass(frozen=True, slots=True)
class StoredInstance:
    """Where to read a stored object: `size` bytes of dataset at `dataset_offset` in `path`."""

    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax_uid: str
    path: StoredFile
    dataset_offset: int
    size: int
    study_uid: str
    series_uid: str


def is_as_selected(instance: StoredInstance) -> bool:
    """Whether the file of an object that was selected a while ago is there, with its length.

    The name of a file of this machine may have been given to other content since: of an object that
    was deleted and stored again, or replaced twice.
    """
    path = instance.path
    if not isinstance(path, Path):
        return path.exists()
    try:
        return path.stat().st_size == instance.dataset_offset + instance.size
    except OSError:
        return False


@dataclass(frozen=True, slots=True)
class Statistics:
    """How much is in the archive; `size` is the bytes of all files."""

    patients: int
    studies: int
    series: int
    instances: int
    size: int


def read_file_header(path: StoredFile) -> Header:
    """Read the indexed attributes of a DICOM file.

    Raises:
        DatasetError: it is none, or its dataset is broken.
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        meta = read_head(file)
        return _read_mapped(
            file.fileno(), meta.dataset_offset, meta.transfer_syntax_uid, is_stored=True
        )


def read_received(received: Received) -> Header:
    """Read the header of a received object.

    Raises:
        DatasetError: the dataset is broken or lacks its UIDs.
        OutOfResourcesError: the spooled file cannot be read.
    """
    if received.header is not None and received.header.needed <= size_of(received):
        return received.header
    if received.dataset is not None:
        return read_header(received.dataset, received.transfer_syntax_uid)
    try:
        with spooled_path_of(received).open("rb") as file:
            return _read_mapped(
                file.fileno(), received.dataset_offset, received.transfer_syntax_uid
            )
    except OSError as error:
        raise OutOfResourcesError("read the spooled object", error.strerror or "") from None


def _read_mapped(
    descriptor: int, offset: int, transfer_syntax_uid: str, *, is_stored: bool = False
) -> Header:
    """Read a header's pages through a memory map; of a stored file also what is refused today."""
    if os.fstat(descriptor).st_size <= offset:
        raise DatasetError("the dataset is empty")
    with mapped(descriptor, offset) as dataset:
        begin = invalid_start(dataset, transfer_syntax_uid) if is_stored else 0
        return read_header(dataset[begin:], transfer_syntax_uid)


@contextlib.contextmanager
def mapped(descriptor: int, offset: int = 0) -> Iterator[memoryview]:
    """The bytes of an open file from `offset` on, without reading them; it must not be empty.

    An error that leaves the block passes as it is, though its traceback may hold parts of the
    bytes: the file then stays mapped for as long as the traceback lives.

    Raises:
        OSError: it cannot be mapped.
    """
    file = mmap.mmap(descriptor, 0, access=mmap.ACCESS_READ)
    view = memoryview(file)[offset:]
    try:
        yield view
    finally:
        with contextlib.suppress(BufferError):
            view.release()
            file.close()


def require_identity(header: Header, received: Received) -> None:
    """Compare the dataset's SOP Class and SOP Instance UID with the command's.

    Raises:
        IdentityMismatchError: they differ.
    Source: PS3.4 section B.2.3.
    """
    for tag, actual, expected in (
        (SOP_CLASS_UID, header.sop_class_uid, received.sop_class_uid),
        (SOP_INSTANCE_UID, header.sop_instance_uid, received.sop_instance_uid),
    ):
        if actual != expected:
            raise IdentityMismatchError(tag, expected, actual)


def spooled_path_of(received: Received) -> Path:
    """The spooled file of an object that is not in memory."""
    if received.spooled_path is None:
        raise DatasetError("there is no dataset")
    return Path(received.spooled_path)


def size_of(received: Received) -> int:
    """Bytes of the dataset."""
    if received.dataset is not None:
        return len(received.dataset)
    return spooled_path_of(received).stat().st_size - received.dataset_offset


def has_same_bytes(received: Received, path: StoredFile, offset: int) -> bool:
    """Compare a received dataset with a stored one of the same size, piece by piece."""
    with contextlib.ExitStack() as stack:
        stored = stack.enter_context(path.open("rb"))
        stored.seek(offset)
        if received.dataset is not None:
            view = memoryview(received.dataset)
            starts = range(0, len(view), _COMPARED)
            # As bytes: views are compared number by number, fifty times as slowly.
            return all(bytes(view[at : at + _COMPARED]) == stored.read(_COMPARED) for at in starts)
        other = stack.enter_context(spooled_path_of(received).open("rb"))
        other.seek(received.dataset_offset)
        while piece := stored.read(_COMPARED):
            if piece != other.read(_COMPARED):
                return False
        return True


def digest_of_received(received: Received, algorithm: str) -> str:
    """The digest of the dataset.

    Raises:
        OutOfResourcesError: the spooled file cannot be read.
    """
    if received.dataset is not None:
        return digest_of(received.dataset, algorithm)
    try:
        return digest_of_file(spooled_path_of(received), received.dataset_offset, algorithm)
    except OSError as error:
        raise OutOfResourcesError("read the spooled object", error.strerror or "") from None
