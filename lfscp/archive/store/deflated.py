"""Limits how far a deflated dataset may inflate, by counting before it is inflated whole.

A megabyte may inflate to a gigabyte, and pydicom inflates all of a dataset at once. Counting takes
bounded memory, and time in proportion to the bound. Large inflated datasets are kept on disk.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

from lfscp.archive.store.budget import BudgetExceededError
from lfscp.archive.store.spool import mapped
from lfscp.archive.store.stored_head import read_head
from lfscp.dicom.encoding.deflate import inflate, pieces_of
from lfscp.dicom.encoding.elements import Buffer
from lfscp.dicom.errors import DatasetError
from lfscp.dicom.reading.header import DEFLATED

if TYPE_CHECKING:
    from lfscp.archive.store.object_store import StoredFile

MAX_INFLATED_BYTES: Final = 512 << 20  # of an object that is decoded or shown
MAX_INFLATED_IDENTIFIER_BYTES: Final = 1 << 20
_PIECE: Final = 65_536
_FEW: Final = 1 << 20  # bytes that may be in memory


def require_bounded_file(path: StoredFile, limit: int = MAX_INFLATED_BYTES) -> None:
    """Refuse a file whose dataset is deflated and inflates to more than the limit, in bytes.

    Raises:
        DatasetError: it does, it cannot be inflated, or it is no DICOM file.
        OSError: it cannot be read.
    """
    with open(path, "rb") as file:
        meta = read_head(file)
        if meta.transfer_syntax_uid in DEFLATED:
            file.seek(meta.dataset_offset)
            require_bounded(iter(lambda: file.read(_PIECE), b""), limit)


def inflated(dataset: Buffer, limit: int = MAX_INFLATED_BYTES) -> memoryview:
    """Inflate a dataset of at most so many bytes; a larger one is not inflated at all.

    Returns:
        its bytes; in a file without a name, mapped, when they are many.
    Raises:
        DatasetError: it inflates to more, cannot be inflated, or ends too early.
        OSError, OutOfResourcesError: there is no room on the disk.
    """
    size = require_bounded(pieces_of(dataset), limit)
    if size <= _FEW:
        return memoryview(b"".join(inflate(pieces_of(dataset))))
    try:
        return memoryview(mapped(size, inflate(pieces_of(dataset))))
    except BudgetExceededError as error:
        raise DatasetError(f"it cannot be inflated now: {error}") from None


def require_bounded(pieces: Iterable[bytes], limit: int) -> int:
    """Refuse deflated bytes that inflate to more than the limit.

    Returns:
        how many bytes they inflate to.
    Raises:
        DatasetError: they do, or cannot be inflated.
    """
    count = 0
    for piece in inflate(pieces, may_be_cut=True):
        count += len(piece)
        if count > limit:
            raise DatasetError(f"it inflates to more than {limit >> 20} MB")
    return count
