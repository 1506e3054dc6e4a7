"""Converts datasets with uncompressed pixels to another transfer syntax at low cost.

Rules: what is small is made in memory; of what is large only the elements beside pixels are, and
the pixels are sent from the stored file, where their bytes stand already. What is held until the
receiver has it is counted; where there would be too much of it, or values must be turned round or
deflated, nothing is made, and the caller does it piece by piece.
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
from lfscp.dicom.conversion import Edit, convert
from lfscp.dicom.encoder import Piece, read_pieces
from lfscp.dicom.errors import DatasetError
from lfscp.dicom.header import DEFLATED, encoding_of
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
        kept: what the result needs as long as it is sent.
    Returns:
        None when it is not to be done so; whoever does it otherwise will say what is wrong.
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
        DatasetError: as `convert`, or it cannot be padded to an even length.
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
    """The same as parts; None when some are only made when they are read."""
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
