"""Reads encapsulated pixel data: its fragments, and which of them make up a frame.

Rules: all code that wants frames reads them here; nothing is copied. An offset table counts when it
fits the fragments. For one frame alone it counts when it fits that frame's; others are not looked
at. Empty fragments at the end belong to no frame. If it is in doubt which fragments are a frame's,
that is an error.
Source: PS3.5 section A.4.
"""

from __future__ import annotations

import struct
import sys
from array import array
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from typing import Final, NamedTuple, overload

from lfscp.dicom.encoding.elements import (
    EXPLICIT_LITTLE,
    ITEM,
    SEQUENCE_DELIMITER,
    UNDEFINED_LENGTH,
    Buffer,
)
from lfscp.dicom.errors import DatasetError

PIXEL_DATA: Final = 0x7FE00010
MAX_FRAGMENTS: Final = 500_000
_HEAD: Final = 8  # bytes of an item's tag and length
# How a frame begins: JPEG and JPEG-LS, JPEG 2000, and JPEG 2000 in its file format.
_BEGINNINGS: Final = (b"\xff\xd8\xff", b"\xff\x4f\xff\x51", b"\0\0\0\x0cjP  ")

Span = tuple[int, int]


class Spans(Sequence[Span]):
    """Begins and ends, in as little memory as there can be: hostile objects have millions."""

    def __init__(self) -> None:
        self._numbers = array("Q")

    def add(self, begin: int, end: int) -> None:
        """Put one behind the last."""
        self._numbers.extend((begin, end))

    def __len__(self) -> int:
        return len(self._numbers) // 2

    @overload
    def __getitem__(self, at: int) -> Span: ...

    @overload
    def __getitem__(self, at: slice) -> tuple[Span, ...]: ...

    def __getitem__(self, at: int | slice) -> Span | tuple[Span, ...]:
        if isinstance(at, slice):
            return tuple(self[one] for one in range(*at.indices(len(self))))
        place = range(len(self))[at]
        return self._numbers[2 * place], self._numbers[2 * place + 1]


class FrameSpans:
    """The fragments of each frame.

    Args:
        spans: of all fragments.
        starts: the number of each frame's first fragment, and the number behind the last one's.
    """

    def __init__(self, spans: Spans, starts: Sequence[int]) -> None:
        self._spans = spans
        self._starts = starts

    @property
    def fragments(self) -> int:
        """How many fragments all frames have."""
        return len(self._spans)

    def __len__(self) -> int:
        return len(self._starts) - 1

    def __getitem__(self, at: int) -> tuple[Span, ...]:
        place = range(len(self))[at]
        return self._spans[self._starts[place] : self._starts[place + 1]]

    def __iter__(self) -> Iterator[tuple[Span, ...]]:
        return (self[place] for place in range(len(self)))


class Fragments(NamedTuple):
    """The items of encapsulated pixel data.

    Args:
        offsets: of the Basic Offset Table; empty when it is.
        spans: begin and end of each fragment's bytes.
        end: the position behind the sequence delimiter.
    """

    offsets: Sequence[int]
    spans: Spans
    end: int


def read_fragments(buffer: Buffer, at: int) -> Fragments:
    """Read the items of encapsulated pixel data.

    Args:
        at: where the value begins, with the Basic Offset Table's item.
    Raises:
        DatasetError: they are broken.
    """
    spans = Spans()
    table: Span | None = None
    end = len(buffer)
    while at + _HEAD <= end:
        raw, length = EXPLICIT_LITTLE.unpack_tag_length(buffer, at)
        tag = EXPLICIT_LITTLE.raw_tag(raw)
        at += _HEAD
        if tag == SEQUENCE_DELIMITER:
            if table is None:
                raise DatasetError("the pixel data has no offset table", PIXEL_DATA)
            return Fragments(_offsets(buffer, table), spans, at)
        if tag != ITEM or length == UNDEFINED_LENGTH:
            raise DatasetError(f"no fragment of pixel data at byte {at - _HEAD}", PIXEL_DATA)
        if at + length > end:
            raise DatasetError(f"{length} bytes of fragment, {end - at} are there", PIXEL_DATA)
        if table is None:
            table = at, at + length
        elif len(spans) == MAX_FRAGMENTS:
            raise DatasetError(f"more than {MAX_FRAGMENTS} fragments", PIXEL_DATA)
        else:
            spans.add(at, at + length)
        at += length
    raise DatasetError("the pixel data ends inside its fragments", PIXEL_DATA)


def _offsets(buffer: Buffer, table: Span) -> Sequence[int]:
    """What the offset table holds; one for more frames than there can be is none."""
    begin, end = table
    if end - begin > 4 * MAX_FRAGMENTS:
        return ()
    offsets = array("I")
    offsets.frombytes(bytes(buffer[begin : end - (end - begin) % 4]))
    if sys.byteorder == "big":
        offsets.byteswap()
    return offsets


def frames_of(
    buffer: Buffer, fragments: Fragments, frames: int, extended: Sequence[int] = ()
) -> FrameSpans:
    """Which fragments make up each frame.

    Args:
        frames: how many the dataset says there are.
        extended: the Extended Offset Table, which counts when the basic one is empty.
    Raises:
        DatasetError: there are more or fewer, or it cannot be told.
    """
    spans = fragments.spans
    count = len(spans)
    while count and spans[count - 1][0] == spans[count - 1][1]:
        count -= 1
    starts = _starts_by_table(spans, count, fragments.offsets or extended)
    if len(starts) != frames:
        starts = _starts_without_table(buffer, spans, count, frames) or starts
    if count and not starts and frames == 1:
        starts = [0]
    if len(starts) != frames:
        found = f"{len(starts)} frames" if starts else f"{count} fragments"
        raise DatasetError(f"the pixel data has {found}, the header says {frames} frames")
    return FrameSpans(spans, array("Q", [*starts, count]))


class OffsetTable(NamedTuple):
    """An offset table that has a place for each frame.

    Args:
        first: where the item of the first fragment begins.
        offsets: of each frame's first item from there; they rise.
    """

    first: int
    offsets: Sequence[int]


def read_offset_table(
    buffer: Buffer, at: int, frames: int, extended: Sequence[int] = ()
) -> OffsetTable | None:
    """The offset table, basic or extended; None when there is none of so many frames.

    Args:
        at: where the value begins, with the Basic Offset Table's item.
        frames: how many the dataset says there are.
        extended: as for `frames_of`.
    """
    raw, length = EXPLICIT_LITTLE.unpack_tag_length(buffer, at)
    first = at + _HEAD + length
    if EXPLICIT_LITTLE.raw_tag(raw) != ITEM or first > len(buffer):
        return None
    offsets = _offsets(buffer, (at + _HEAD, first)) or extended
    rises = all(one < next_one for one, next_one in pairwise(offsets))
    if len(offsets) != frames or offsets[0] != 0 or not rises:
        return None
    return OffsetTable(first, offsets)


def frame_by_table(buffer: Buffer, table: OffsetTable, number: int) -> tuple[Span, ...]:
    """The fragments of one frame, counted from 0, read where the frame is.

    Returns:
        none when the table does not fit this frame.
    """
    first, offsets = table
    stop = first + offsets[number + 1] if number + 1 < len(offsets) else None
    return _fragments_between(buffer, first + offsets[number], stop)


def one_frame_of(
    buffer: Buffer, at: int, number: int, frames: int, extended: Sequence[int] = ()
) -> tuple[Span, ...]:
    """The fragments of one frame by an offset table.

    Args:
        at, frames, extended: as `read_offset_table` takes them.
        number: of the frame, counted from 0.
    Returns:
        none when there is no table of so many frames, or it does not fit this one.
    """
    table = read_offset_table(buffer, at, frames, extended)
    return frame_by_table(buffer, table, number) if table is not None else ()


def _fragments_between(buffer: Buffer, at: int, stop: int | None) -> tuple[Span, ...]:
    """The fragments from one position to another, or to the delimiter; none if it does not fit."""
    spans: list[Span] = []
    end = len(buffer) if stop is None else min(stop, len(buffer))
    while at + _HEAD <= end:
        raw, length = EXPLICIT_LITTLE.unpack_tag_length(buffer, at)
        tag = EXPLICIT_LITTLE.raw_tag(raw)
        at += _HEAD
        if tag == SEQUENCE_DELIMITER and stop is None:
            return tuple(spans)
        if tag != ITEM or at + length > end:
            return ()
        spans.append((at, at + length))
        at += length
    return tuple(spans) if at == stop else ()


def _starts_by_table(spans: Spans, count: int, offsets: Sequence[int]) -> Sequence[int]:
    """The number of each frame's first fragment; none when the table is empty or does not fit."""
    if not count or not offsets or offsets[0] != 0:
        return ()
    base, number = spans[0][0], 0
    starts = array("Q")
    for offset in offsets:
        while number < count and spans[number][0] - base < offset:
            number += 1
        if number == count or spans[number][0] - base != offset:
            return ()
        starts.append(number)
        number += 1
    return starts


def _starts_without_table(buffer: Buffer, spans: Spans, count: int, frames: int) -> Sequence[int]:
    """The same by their count, or by how frames begin; none when it cannot be told."""
    if count == frames:
        return range(frames)
    starts = array("Q")
    for number in range(count):
        begin, _ = spans[number]
        if bytes(buffer[begin : begin + 8]).startswith(_BEGINNINGS):
            starts.append(number)
    return starts if starts and starts[0] == 0 else ()


def padded_fragments(buffer: memoryview, at: int) -> tuple[Iterable[bytes | memoryview], int]:
    """The items of encapsulated pixel data, each fragment padded to an even length.

    Args:
        at: where the value begins.
    Returns:
        the pieces of the value with its delimiter, one at a time, and where it ended.
    Raises:
        DatasetError: the items are broken.
    """
    offsets, spans, end = read_fragments(buffer, at)
    if all((until - begin) % 2 == 0 for begin, until in spans):
        return [buffer[at:end]], end
    return _padded(buffer, offsets, spans, end), end


def _padded(
    buffer: memoryview, offsets: Sequence[int], spans: Spans, end: int
) -> Iterator[bytes | memoryview]:
    first = spans[0][0] - _HEAD
    odd = array("Q", (begin - _HEAD - first for begin, until in spans if (until - begin) % 2))
    moved = array("I", (offset + bisect_left(odd, offset) for offset in offsets))
    if sys.byteorder == "big":
        moved.byteswap()
    yield _item_head(4 * len(moved))
    yield moved.tobytes()
    for begin, until in spans:
        padding = (until - begin) % 2
        yield _item_head(until - begin + padding)
        yield buffer[begin:until]
        yield b"\0" * padding
    yield buffer[end - _HEAD : end]


def _item_head(length: int) -> bytes:
    return struct.pack("<HHL", ITEM >> 16, ITEM & 0xFFFF, length)
