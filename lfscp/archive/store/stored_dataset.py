"""Opens the dataset of a DICOM file as bytes to be read in place: mapped, or inflated.

Rules: read by the transfer syntax of the file meta information, where the file meta information
ends by its own length, unless the caller knows both; nothing in the dataset changes either. A
deflated one is inflated to a bounded size, on disk unless it is small; the last one is kept, until
another takes its place.
"""

from __future__ import annotations

import mmap
import os
import threading
from typing import IO, TYPE_CHECKING, Final, NamedTuple

from lfscp.archive.store.deflated import inflated
from lfscp.archive.store.stored_head import read_head
from lfscp.dicom.encoding.elements import Encoding
from lfscp.dicom.errors import DatasetError
from lfscp.dicom.reading.header import DEFLATED, encoding_of

if TYPE_CHECKING:
    from lfscp.archive.store.object_store import StoredFile


class _Last:
    """The dataset that was inflated last: frames are asked for one after another."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._of: tuple[int, ...] = ()
        self._content = memoryview(b"")

    def inflate(self, of: tuple[int, ...], deflated: memoryview) -> memoryview:
        with self._lock:
            if self._of == of:
                return self._content
        content = inflated(deflated)
        with self._lock:
            self._of, self._content = of, content
        return content


_LAST: Final = _Last()


class StoredDataset(NamedTuple):
    """An encoded dataset.

    Args:
        content: its bytes, without file meta information, inflated. What was read of a mapped file
            counts as memory of the process until `forget`.
        offset: where it begins in the file.
    """

    transfer_syntax_uid: str
    encoding: Encoding
    content: memoryview
    offset: int

    def forget(self) -> None:
        """Unmap what was read so far; what is read again comes from the page cache."""
        if isinstance(self.content.obj, mmap.mmap):
            self.content.obj.madvise(mmap.MADV_DONTNEED)


def read_stored_dataset(
    path: StoredFile, transfer_syntax_uid: str = "", dataset_offset: int | None = None
) -> StoredDataset:
    """Open the dataset of a DICOM file.

    Args:
        transfer_syntax_uid: of the dataset; the file meta information's when it is empty.
        dataset_offset: where it begins, when that is known. With both the head is not read, which
            may be none.
    Raises:
        DatasetError: it is none, or it cannot be inflated.
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        return dataset_of(file, transfer_syntax_uid, dataset_offset)


def dataset_of(
    file: IO[bytes], transfer_syntax_uid: str = "", dataset_offset: int | None = None
) -> StoredDataset:
    """The same of a file that is open; it may be closed afterwards."""
    syntax, offset = transfer_syntax_uid, dataset_offset
    if not syntax or offset is None:
        meta = read_head(file)
        syntax, offset = syntax or meta.transfer_syntax_uid, meta.dataset_offset
    state = os.fstat(file.fileno())
    if state.st_size <= offset:
        raise DatasetError("the dataset is empty")
    mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    content = memoryview(mapped)[offset:]  # the map ends with the last view of it
    if syntax in DEFLATED:
        content = _LAST.inflate((state.st_dev, state.st_ino, state.st_mtime_ns, offset), content)
    return StoredDataset(syntax, encoding_of(syntax), content, offset)
