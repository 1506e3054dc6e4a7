"""Deflates datasets, and inflates them in pieces of bounded size (PS3.5 A.5: no zlib header)."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator
from typing import Final

from lfscp.dicom.encoding.elements import Buffer
from lfscp.dicom.errors import DatasetError

_PIECE: Final = 32_768  # bytes


def deflate(dataset: bytes) -> bytes:
    """Deflate a dataset, to an even number of bytes."""
    deflater = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    deflated = deflater.compress(dataset) + deflater.flush()
    return deflated + b"\0" if len(deflated) % 2 else deflated


def pieces_of(deflated: Buffer) -> Iterator[bytes]:
    """The bytes of a deflated dataset, some at a time."""
    return (bytes(deflated[start : start + _PIECE]) for start in range(0, len(deflated), _PIECE))


def inflate(pieces: Iterable[bytes], *, may_be_cut: bool = False) -> Iterator[bytes]:
    """Inflate a dataset, no further than its bytes are asked for.

    Args:
        pieces: of the deflated dataset.
        may_be_cut: whether it may end too early.
    Raises:
        DatasetError: it cannot be inflated, or ends too early.
    """
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        for piece in pieces:
            pending = piece
            while pending and not inflater.eof:  # behind its end stands padding, which never goes
                yield inflater.decompress(pending, _PIECE)
                pending = inflater.unconsumed_tail
        while more := inflater.decompress(b"", _PIECE):
            yield more
    except zlib.error:
        raise DatasetError("the deflated dataset cannot be inflated") from None
    if not (inflater.eof or may_be_cut):
        raise DatasetError("the deflated dataset ends too early")
