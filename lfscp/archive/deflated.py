"""Deflated datasets that explode: how far one inflates is counted before anybody inflates it whole.

A megabyte may inflate to a gigabyte, and pydicom inflates all of a dataset at once. Counting takes
bounded memory, and time in proportion to the bound.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator
from typing import IO, TYPE_CHECKING, Final

from lfscp.archive.elements import Buffer
from lfscp.archive.errors import CannotUnderstand
from lfscp.archive.header import DEFLATED
from lfscp.archive.part10 import read_part10

if TYPE_CHECKING:
    from lfscp.archive.object_store import StoredFile

MAX_INFLATED_BYTES: Final = 512 << 20  # of an object that is decoded or shown
MAX_INFLATED_IDENTIFIER_BYTES: Final = 1 << 20
_HEAD: Final = 65_536  # the file meta information ends in it
_PIECE: Final = 65_536


def require_bounded_file(path: StoredFile, limit: int = MAX_INFLATED_BYTES) -> None:
    """Refuse a file whose dataset is deflated and inflates to more than the limit, in bytes.

    Raises:
        CannotUnderstand: it does, it cannot be inflated, or it is no DICOM file.
        OSError: it cannot be read.
    """
    with open(path, "rb") as file:
        meta = read_part10(file.read(_HEAD))
        if meta.transfer_syntax_uid in DEFLATED:
            file.seek(meta.dataset_offset)
            require_bounded(_pieces(file), limit)


def inflated(dataset: Buffer, limit: int = MAX_INFLATED_BYTES) -> bytes:
    """Inflate a dataset of at most so many bytes; what is more is not inflated at all.

    Raises:
        CannotUnderstand: it inflates to more, cannot be inflated, or ends too early.
    """
    starts = range(0, len(dataset), _PIECE)
    require_bounded((bytes(dataset[start : start + _PIECE]) for start in starts), limit)
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    content = inflater.decompress(dataset)
    if not inflater.eof:
        raise CannotUnderstand("the deflated dataset ends too early")
    return content


def _pieces(file: IO[bytes]) -> Iterator[bytes]:
    while piece := file.read(_PIECE):
        yield piece


def require_bounded(pieces: Iterable[bytes], limit: int) -> None:
    """Refuse deflated bytes that inflate to more than the limit.

    Raises:
        CannotUnderstand: they do, or cannot be inflated.
    Source: PS3.5 section A.5 (no zlib header).
    """
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    count = 0
    try:
        for piece in pieces:
            pending = piece
            while pending and not inflater.eof:  # behind its end stands padding, which never goes
                count += len(inflater.decompress(pending, _PIECE))
                if count > limit:
                    raise CannotUnderstand(f"it inflates to more than {limit >> 20} MB")
                pending = inflater.unconsumed_tail
        while more := len(inflater.decompress(b"", _PIECE)):
            count += more
            if count > limit:
                raise CannotUnderstand(f"it inflates to more than {limit >> 20} MB")
    except zlib.error:
        raise CannotUnderstand("the deflated dataset cannot be inflated") from None
