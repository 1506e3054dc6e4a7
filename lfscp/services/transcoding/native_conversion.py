"""Converts datasets with uncompressed pixels to another transfer syntax at low cost.

Rules: a small dataset is converted in memory. Of a large one, only the elements beside the pixels
are; the pixels are sent from the stored file. The memory held until the receiver has the object is
counted. If that would be too much, or if values must be swapped or deflated, the caller converts
the dataset piece by piece instead.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from typing import Final

import numpy as np

from lfscp.archive.store.object_store import StoredFile
from lfscp.archive.store.spool import IN_MEMORY
from lfscp.archive.store.stored_dataset import StoredDataset, dataset_of
from lfscp.dicom.conversion.converter import Edit, convert
from lfscp.dicom.conversion.encoder import Piece, read_pieces
from lfscp.dicom.errors import DatasetError
from lfscp.dicom.reading.header import DEFLATED, encoding_of
from lfscp.upperlayer.scu.sending import FileSlice, Parts

_SMALL: Final = 2 << 20  # bytes of a dataset
_LITTLE: Final = 1 << 20  # bytes of the elements beside pixels of a larger one
_ROUNDING: Final = 65_536  # bytes of new headers, and of padding


def convert_native(
    path: StoredFile,
    stored_syntax: str,
    wanted_syntax: str,
    dataset_offset: int | None,
    kept: ExitStack,
) -> bytes | Parts | None:
    """Convert a dataset that need not be decoded, inflated or deflated.

    Args:
        kept: holds what the result needs until it is sent.
    Returns:
        None if the caller must convert it otherwise, which also says what is wrong.
    Raises:
        OSError: the file cannot be read.
    """
    file = kept.enter_context(path.open("rb"))
    try:
        dataset = dataset_of(file, stored_syntax, dataset_offset)
        size = len(dataset.content)
        bound = 2 * min(size, _LITTLE) + _ROUNDING
        held = max(bound, size + _ROUNDING) if size <= _SMALL else bound
        if not IN_MEMORY.take(held):
            return None
        kept.callback(lambda: IN_MEMORY.give_back(held))
        pieces = converted_pieces(dataset, wanted_syntax, most_bytes=bound)
    except DatasetError:
        return None
    if size <= _SMALL:
        return b"".join(read_pieces(pieces))
    parts = _parts(path, file.fileno(), dataset, pieces)
    if parts is not None:
        too_much = held - sum(len(each) for each in parts.parts if not isinstance(each, FileSlice))
        held -= too_much
        IN_MEMORY.give_back(too_much)
    return parts


def converted_pieces(
    dataset: StoredDataset,
    wanted_syntax: str,
    edits: Mapping[int, Edit | None] | None = None,
    *,
    most_bytes: float,
) -> list[Piece]:
    """The pieces of a dataset in another transfer syntax, before they are deflated.

    Args:
        edits, most_bytes: as `convert` takes them.
    Raises:
        DatasetError: as `convert`; or the dataset cannot be padded to an even length.
    """
    target = encoding_of(wanted_syntax)
    encode = partial(
        convert, dataset.content, dataset.encoding, target, edits, most_bytes=most_bytes
    )
    pieces = encode()
    if not _is_odd(pieces):
        return pieces
    del pieces
    pieces = encode(pads=True)
    if wanted_syntax not in DEFLATED and _is_odd(pieces):
        raise DatasetError("it cannot be padded to an even length")
    return pieces


def _is_odd(pieces: Sequence[Piece]) -> bool:
    return sum(len(piece) for piece in pieces) % 2 == 1


def _parts(
    path: StoredFile, descriptor: int, dataset: StoredDataset, pieces: Sequence[Piece]
) -> Parts | None:
    """The pieces as parts of a message; None if some are made only as they are read."""
    first = _address(dataset.content) - dataset.offset
    end = dataset.offset + len(dataset.content)
    parts: list[bytes | bytearray | FileSlice] = []
    for piece in pieces:
        if isinstance(piece, memoryview):
            at = _address(piece) - first
            if not dataset.offset <= at <= end - len(piece):
                return None
            parts.append(FileSlice(path, at, len(piece), descriptor=descriptor))
        elif isinstance(piece, bytes | bytearray):
            parts.append(piece)
        else:
            return None
    dataset.forget()
    return Parts(parts)


def _address(view: memoryview) -> int:
    return int(np.frombuffer(view, np.uint8).ctypes.data)
