"""Reads parts of an object's dataset from a bucket, without fetching the object.

Rules: the dataset looks whole, but only what was asked for is there; the rest is zeros. `read_head`
fetches all that is read of a dataset beside pixels and long binary values. All parts are of one
version of the object, or reading fails. An object that is on this machine is not read so, nor one
that must be inflated. No copy is kept.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import lru_cache
from itertools import islice
from typing import TYPE_CHECKING, Final

import numpy as np
from pydicom.datadict import dictionary_VR

from lfscp.archive.store.bucket.remote_object import RemoteObject
from lfscp.archive.store.stored_dataset import StoredDataset, read_stored_dataset
from lfscp.dicom.encoding.elements import UNDEFINED_LENGTH, Encoding, element_head, skip_undefined
from lfscp.dicom.encoding.image_pixel import PIXELS
from lfscp.dicom.errors import DatasetError
from lfscp.dicom.models.metadata import INLINE_BYTES
from lfscp.dicom.reading.header import DEFLATED, encoding_of

if TYPE_CHECKING:
    from lfscp.archive.store.object_store import StoredFile
    from lfscp.archive.store.received_objects import StoredInstance

MAX_BYTES: Final = 8 << 20  # in memory, of one object
_MAX_HEAD: Final = 4 << 20  # of which _AHEAD are in memory
_WHOLE_BYTES: Final = 8 << 20  # up to these an object is fetched whole, and a copy kept
_BLOCK: Final = 1 << 16  # bytes fetched at least
_LARGEST: Final = 1 << 32  # bytes of an object
_HEAD_BYTES: Final = 12
_LONG_BINARY: Final = frozenset(b"OB OD OF OL OV OW".split())
_AHEAD: Final = 8  # objects


class TooManyPartsError(Exception):
    """More of the object is needed than is fetched in parts."""


class PartialDataset:
    """The dataset of one object in a bucket; for one thread.

    Args:
        file: of a known version.
        max_bytes: that are fetched at most.
    Attributes:
        dataset: as `read_stored_dataset` gives it, with zeros where nothing was fetched.
    """

    def __init__(
        self,
        file: RemoteObject,
        transfer_syntax_uid: str,
        dataset_offset: int,
        max_bytes: int = MAX_BYTES,
    ) -> None:
        self._file = file
        self._max_bytes = max_bytes
        self._offset = dataset_offset
        self._blocks: set[int] = set()
        size = file.size - dataset_offset
        if size <= 0:
            raise DatasetError("the dataset is empty")
        self._bytes = np.zeros(size, np.uint8).data  # memory is taken as it is written
        encoding = encoding_of(transfer_syntax_uid)
        self.dataset = StoredDataset(transfer_syntax_uid, encoding, self._bytes, dataset_offset)

    @property
    def identity(self) -> tuple[str, str]:
        """What changes with the name of the object or its content."""
        return self._file.identity

    def need(self, begin: int, end: int) -> None:
        """Have these bytes of the dataset.

        Raises:
            TooManyPartsError: that would be more than it fetches.
            OSError: they cannot be had.
        """
        last = (min(end, len(self._bytes)) - 1) // _BLOCK
        missing = [each for each in range(begin // _BLOCK, last + 1) if each not in self._blocks]
        if not missing:
            return
        if (len(self._blocks) + len(missing)) * _BLOCK > self._max_bytes:
            raise TooManyPartsError
        for first, stop in _runs(missing):
            start, until = first * _BLOCK, min(stop * _BLOCK, len(self._bytes))
            content = self._file.read_range(self._offset + start, self._offset + until)
            self._bytes[start:until] = content
            self._blocks.update(range(first, stop))

    def read(self, begin: int, end: int) -> bytes:
        """Some bytes of the dataset, of which nothing stays in memory.

        Raises:
            OSError: they cannot be had.
        """
        return self._file.read_range(self._offset + begin, self._offset + end)

    def read_head(self) -> None:
        """Have all elements up to the pixels, without long binary values; and those behind them.

        Raises:
            As `need`.
        """
        content, encoding, end = self.dataset.content, self.dataset.encoding, len(self._bytes)
        at = 0
        while at + 8 <= end:
            self.need(at, at + _HEAD_BYTES)
            try:
                raw, value, length, inner = element_head(content, at, end, encoding)
                tag = encoding.raw_tag(raw)
                if length == UNDEFINED_LENGTH:
                    if tag in PIXELS:
                        return
                    at = self._skip(value, inner or encoding)
                    continue
            except DatasetError:
                return  # it is broken there, and who reads it sees the same
            if value + length > end:
                return
            vr = bytes(content[at + 4 : at + 6]) if encoding.explicit else _binary_vr(tag)
            is_long = vr in _LONG_BINARY and length > INLINE_BYTES
            if tag not in PIXELS and not is_long:
                self.need(value, value + length)
            at = value + length

    def _skip(self, at: int, encoding: Encoding) -> int:
        """The position behind a sequence of undefined length, fetched as far as it goes."""
        content, end = self.dataset.content, len(self._bytes)
        size = _BLOCK
        while True:
            until = min(at + size, end)
            self.need(at, until)
            try:
                return skip_undefined(content, at, until, encoding)
            except DatasetError:
                if until == end:
                    raise
                size *= 2


def _runs(blocks: list[int]) -> Iterator[tuple[int, int]]:
    """Blocks that follow each other: the first, and the one behind the last."""
    first = last = blocks[0]
    for each in blocks[1:]:
        if each != last + 1:
            yield first, last + 1
            first = each
        last = each
    yield first, last + 1


@lru_cache(4096)
def _binary_vr(tag: int) -> bytes:
    """The VR of an element in implicit VR that is binary whatever the dataset says; else empty."""
    try:
        vr = dictionary_VR(tag)
    except KeyError:
        return b""
    return b"OW" if vr in ("OB or OW", "OW", "OB", "OF", "OD", "OL", "OV") else b""


def partial_dataset(
    file: StoredFile, transfer_syntax_uid: str, dataset_offset: int, max_bytes: int = MAX_BYTES
) -> PartialDataset | None:
    """The dataset of an object to be read in parts; None if it is to be read as a file."""
    if not isinstance(file, RemoteObject) or transfer_syntax_uid in DEFLATED:
        return None
    if not 0 < file.size < _LARGEST or file.has_copy:
        return None
    return PartialDataset(file, transfer_syntax_uid, dataset_offset, max_bytes)


def parts_of_large(
    file: StoredFile, transfer_syntax_uid: str, dataset_offset: int
) -> PartialDataset | None:
    """The same of a large object only: of a small one more is asked for soon, so it is fetched."""
    is_large = isinstance(file, RemoteObject) and file.size > _WHOLE_BYTES
    return partial_dataset(file, transfer_syntax_uid, dataset_offset) if is_large else None


def read_head(each: StoredInstance) -> StoredDataset:
    """A dataset in which pixels and long binary values may be zeros.

    Raises:
        OSError, DatasetError: as `read_stored_dataset`.
    """
    place = (each.path, each.transfer_syntax_uid, each.dataset_offset)
    found = partial_dataset(*place, max_bytes=_MAX_HEAD)
    if found is not None:
        try:
            found.read_head()
        except TooManyPartsError:
            pass
        else:
            return found.dataset
    return read_stored_dataset(*place)


def read_heads(
    instances: Iterable[StoredInstance],
) -> Iterator[tuple[StoredInstance, StoredDataset | OSError | DatasetError]]:
    """Datasets as `read_head` gives them, or why it cannot; of a bucket some are read ahead."""
    waiting = iter(instances)
    some = list(islice(waiting, _AHEAD))
    if not some or not isinstance(some[0].path, RemoteObject):
        for each in (*some, *waiting):
            yield each, _head_of(each)
        return
    with ThreadPoolExecutor(_AHEAD, "lfscp-heads") as pool:
        ahead: list[tuple[StoredInstance, Future[StoredDataset | OSError | DatasetError]]] = [
            (each, pool.submit(_head_of, each)) for each in some
        ]
        try:
            while ahead:
                each, future = ahead.pop(0)
                found = future.result()
                ahead.extend((one, pool.submit(_head_of, one)) for one in islice(waiting, 1))
                yield each, found
        finally:
            pool.shutdown(cancel_futures=True)


def _head_of(each: StoredInstance) -> StoredDataset | OSError | DatasetError:
    try:
        return read_head(each)
    except (OSError, DatasetError) as error:
        return error
