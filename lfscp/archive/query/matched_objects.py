"""Reads the objects of a query's matches for the attributes that the index lacks.

Rules: no more of a file is read than its header; of one in a bucket, its first part. An object that
is gone or damaged gives no values, and the caller is told; nothing is raised.
"""

from __future__ import annotations

import mmap
import os
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final, NamedTuple

from lfscp.archive.index.database.interruption import Interruption
from lfscp.archive.query.object_attributes import DatasetAttributes, ObjectAttribute
from lfscp.archive.query.object_keys import ObjectKey
from lfscp.archive.store.object_store import ObjectStore
from lfscp.dicom.encoding.elements import EXPLICIT_LITTLE, Buffer
from lfscp.dicom.errors import DatasetError
from lfscp.dicom.reading.header import DEFLATED, encoding_of

_MAX_FETCHED: Final = 8 << 20  # bytes of an object that is not on this machine yet
_INFLATED: Final = (1 << 16, 1 << 20, 1 << 24)  # bytes of a deflated dataset to try, in turn


class ObjectRow(NamedTuple):
    """Where an instance's dataset is: as its row in the index has it."""

    path: str
    transfer_syntax_uid: str
    dataset_offset: int
    size: int
    digest: str


def read_attributes(
    files: ObjectStore,
    rows: Iterable[ObjectRow],
    keys: Sequence[ObjectKey],
    interruption: Interruption,
) -> Iterator[list[ObjectAttribute | None]]:
    """Read the attributes of objects one after another, in the thread that draws them.

    Args:
        rows: not too many: of a bucket's objects the next ones are fetched ahead.
        interruption: asked for every object, and while one is read.
    Returns:
        For each object one element per key, of zero length where it has none; None where it
        cannot be read.
    Raises:
        InterruptionError: the values are no longer wanted.
    """
    rows = list(rows)
    for row, file in zip(rows, files.located(rows), strict=True):
        interruption.look()
        try:
            with _dataset(file, row, is_remote=files.is_remote) as (buffer, end):
                found = _elements(buffer, row, end, keys, interruption)
        except (OSError, DatasetError, zlib.error):
            found = [None] * len(keys)
        yield found


@contextmanager
def _dataset(file: Any, row: ObjectRow, *, is_remote: bool) -> Iterator[tuple[Buffer, int]]:
    """The file in memory, and where what there is of its dataset ends."""
    fetch = file.begin() if is_remote else None
    if fetch is not None:  # as much as a header may be; the rest stays where it is
        length = min(fetch.size, _MAX_FETCHED)
        fetch.wait_for(length)
        with _mapped(fetch.fileno(), length, row) as found:
            yield found
        return
    with file.open("rb") as opened:
        descriptor = opened.fileno()
        with _mapped(descriptor, os.fstat(descriptor).st_size, row) as found:
            yield found


@contextmanager
def _mapped(descriptor: int, length: int, row: ObjectRow) -> Iterator[tuple[Buffer, int]]:
    if length <= row.dataset_offset:
        raise DatasetError("the dataset is empty")
    with mmap.mmap(descriptor, length, access=mmap.ACCESS_READ) as mapped:
        yield mapped, min(length, row.dataset_offset + row.size)


def _elements(
    buffer: Buffer,
    row: ObjectRow,
    end: int,
    keys: Sequence[ObjectKey],
    interruption: Interruption,
) -> list[ObjectAttribute | None]:
    begin = row.dataset_offset
    look = interruption.look
    if row.transfer_syntax_uid not in DEFLATED:
        encoding = encoding_of(row.transfer_syntax_uid)
        is_cut = end < begin + row.size
        dataset = DatasetAttributes(buffer, begin, end, encoding, keys, is_cut=is_cut, look=look)
        return dataset.elements(keys)
    deflated = bytes(buffer[begin : min(end, begin + _INFLATED[-1])])
    for length in _INFLATED:
        inflater = zlib.decompressobj(-zlib.MAX_WBITS)
        inflated = inflater.decompress(deflated, length)
        try:
            is_cut = not inflater.eof
            dataset = DatasetAttributes(
                inflated, 0, len(inflated), EXPLICIT_LITTLE, keys, is_cut=is_cut, look=look
            )
            return dataset.elements(keys)
        except DatasetError:  # the header is longer
            if len(inflated) < length:
                raise
    raise DatasetError("the header of the deflated dataset is too long")
