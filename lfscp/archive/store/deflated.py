"""Deflated datasets that explode: how far one inflates is counted before anybody inflates it whole.

A megabyte may inflate to a gigabyte, and pydicom inflates all of a dataset at once. Counting takes
bounded memory, and time in proportion to the bound. What is inflated is on disk unless it is small.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator
from typing import IO, TYPE_CHECKING, Final

from lfscp.archive.store.budget import BudgetExceededError
from lfscp.archive.store.spool import mapped
from lfscp.dicom.elements import Buffer
from lfscp.dicom.errors import DatasetError
from lfscp.dicom.header import DEFLATED
from lfscp.dicom.part10 import read_part10

if TYPE_CHECKING:
    from lfscp.archive.store.object_store import StoredFile

MAX_INFLATED_BYTES: Final = 512 << 20  # of an object that is decoded or shown
MAX_INFLATED_IDENTIFIER_BYTES: Final = 1 << 20
_HEAD: Final = 65_536  # the file meta information ends in it
_PIECE: Final = 65_536
_FEW: Final = 1 << 20  # bytes that may be in memory


def require_bounded_file(path: StoredFile, limit: int = MAX_INFLATED_BYTES) -> None:
    """Refuse a file whose dataset is deflated and inflates to more than the limit, in bytes.

    Raises:
        DatasetError: it does, it cannot be inflated, or it is no DICOM file.
        OSError: it cannot be read.
    """
    with open(path, "rb") as file:
        meta = read_part10(file.read(_HEAD))
        if meta.transfer_syntax_uid in DEFLATED:
            file.seek(meta.dataset_offset)
            require_bounded(_pieces(file), limit)


def inflated(dataset: Buffer, limit: int = MAX_INFLATED_BYTES) -> memoryview:
    """Inflate a dataset of at most so many bytes; what is more is not inflated at all.

    Returns:
        its bytes; in a file without a name, mapped, when they are many.
    Raises:
        DatasetError: it inflates to more, cannot be inflated, or ends too early.
        OSError, OutOfResourcesError: there is no room on the disk.
    """
    size = require_bounded(_cut(dataset), limit)
    if size <= _FEW:
        return memoryview(b"".join(_whole(_cut(dataset))))
    try:
        return memoryview(mapped(size, _whole(_cut(dataset))))
    except BudgetExceededError as error:
        raise DatasetError(f"it cannot be inflated now: {error}") from None


def _cut(dataset: Buffer) -> Iterator[bytes]:
    return (bytes(dataset[start : start + _PIECE]) for start in range(0, len(dataset), _PIECE))


def _whole(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Inflate a dataset that must not end too early, in pieces."""
    inflater = _inflater()
    yield from _inflate(inflater, pieces)
    if not inflater.eof:
        raise DatasetError("the deflated dataset ends too early")


def _inflater() -> zlib._Decompress:
    """What inflates a dataset (PS3.5 section A.5: no zlib header)."""
    return zlib.decompressobj(-zlib.MAX_WBITS)


def _inflate(inflater: zlib._Decompress, pieces: Iterable[bytes]) -> Iterator[bytes]:
    for piece in pieces:
        pending = piece
        while pending and not inflater.eof:  # behind its end stands padding, which never goes
            yield inflater.decompress(pending, _PIECE)
            pending = inflater.unconsumed_tail
    while more := inflater.decompress(b"", _PIECE):
        yield more


def _pieces(file: IO[bytes]) -> Iterator[bytes]:
    while piece := file.read(_PIECE):
        yield piece


def require_bounded(pieces: Iterable[bytes], limit: int) -> int:
    """Refuse deflated bytes that inflate to more than the limit.

    Returns:
        how many bytes they inflate to.
    Raises:
        DatasetError: they do, or cannot be inflated.
    """
    count = 0
    try:
        for piece in _inflate(_inflater(), pieces):
            count += len(piece)
            if count > limit:
                raise DatasetError(f"it inflates to more than {limit >> 20} MB")
    except zlib.error:
        raise DatasetError("the deflated dataset cannot be inflated") from None
    return count
