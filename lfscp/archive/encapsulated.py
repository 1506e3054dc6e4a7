"""Encapsulated pixel data: its fragments, and which of them make up a frame.

Rules: one reading for all who want frames; nothing is copied. An offset table counts when it fits
the fragments; for one frame alone, when it fits that frame's, so that others' are not looked at.
Fragments of no bytes at the end belong to no frame. What leaves in doubt which fragments are a
frame's is an error.
Source: PS3.5 section A.4.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from itertools import pairwise
from typing import Final, NamedTuple

from lfscp.archive.elements import (
    EXPLICIT_LITTLE,
    ITEM,
    SEQUENCE_DELIMITER,
    UNDEFINED_LENGTH,
    Buffer,
)
from lfscp.archive.errors import CannotUnderstand

PIXEL_DATA: Final = 0x7FE00010
_HEAD: Final = 8  # bytes of an item's tag and length
# How a frame begins: JPEG and JPEG-LS, JPEG 2000, and JPEG 2000 in its file format.
_BEGINNINGS: Final = (b"\xff\xd8\xff", b"\xff\x4f\xff\x51", b"\0\0\0\x0cjP  ")

Span = tuple[int, int]


class Fragments(NamedTuple):
    """The items of encapsulated pixel data.

    Args:
        offsets: of the Basic Offset Table; empty when it is.
        spans: begin and end of each fragment's bytes.
        end: the position behind the sequence delimiter.
    """

    offsets: tuple[int, ...]
    spans: tuple[Span, ...]
    end: int


def read_fragments(buffer: Buffer, at: int) -> Fragments:
    """Read the items of encapsulated pixel data.

    Args:
        at: where the value begins, with the Basic Offset Table's item.
    Raises:
        CannotUnderstand: they are broken.
    """
    spans: list[Span] = []
    end = len(buffer)
    while at + _HEAD <= end:
        raw, length = EXPLICIT_LITTLE.unpack_tag_length(buffer, at)
        tag = EXPLICIT_LITTLE.raw_tag(raw)
        at += _HEAD
        if tag == SEQUENCE_DELIMITER:
            if not spans:
                raise CannotUnderstand("the pixel data has no offset table", PIXEL_DATA)
            return Fragments(_offsets(buffer, spans[0]), tuple(spans[1:]), at)
        if tag != ITEM or length == UNDEFINED_LENGTH:
            raise CannotUnderstand(f"no fragment of pixel data at byte {at - _HEAD}", PIXEL_DATA)
        if at + length > end:
            raise CannotUnderstand(f"{length} bytes of fragment, {end - at} are there", PIXEL_DATA)
        spans.append((at, at + length))
        at += length
    raise CannotUnderstand("the pixel data ends inside its fragments", PIXEL_DATA)


def _offsets(buffer: Buffer, table: Span) -> tuple[int, ...]:
    begin, end = table
    return struct.unpack_from(f"<{(end - begin) // 4}L", buffer, begin)


def frames_of(
    buffer: Buffer, fragments: Fragments, frames: int, extended: Sequence[int] = ()
) -> list[tuple[Span, ...]]:
    """Which fragments make up each frame.

    Args:
        frames: how many the dataset says there are.
        extended: the Extended Offset Table, which counts when the basic one is empty.
    Raises:
        CannotUnderstand: there are more or fewer, or it cannot be told.
    """
    spans = list(fragments.spans)
    while spans and spans[-1][0] == spans[-1][1]:
        spans.pop()
    starts = _starts_by_table(spans, fragments.offsets or tuple(extended))
    if len(starts) != frames:
        starts = _starts_without_table(buffer, spans, frames) or starts
    if spans and not starts and frames == 1:
        starts = [0]
    if len(starts) != frames:
        found = f"{len(starts)} frames" if starts else f"{len(spans)} fragments"
        raise CannotUnderstand(f"the pixel data has {found}, the header says {frames} frames")
    return [tuple(spans[first:last]) for first, last in pairwise([*starts, len(spans)])]


def one_frame_of(
    buffer: Buffer, at: int, number: int, frames: int, extended: Sequence[int] = ()
) -> tuple[Span, ...]:
    """The fragments of one frame by an offset table, read where the frame is.

    Args:
        at: where the value begins, with the Basic Offset Table's item.
        number: of the frame, counted from 0.
        frames: how many the dataset says there are.
        extended: as for `frames_of`.
    Returns:
        none when there is no table of so many frames, or it does not fit this one.
    """
    raw, length = EXPLICIT_LITTLE.unpack_tag_length(buffer, at)
    first = at + _HEAD + length
    if EXPLICIT_LITTLE.raw_tag(raw) != ITEM or first > len(buffer):
        return ()
    offsets = _offsets(buffer, (at + _HEAD, first)) or tuple(extended)
    rises = all(one < next_one for one, next_one in pairwise(offsets))
    if len(offsets) != frames or offsets[0] != 0 or not rises:
        return ()
    stop = first + offsets[number + 1] if number + 1 < frames else None
    return _fragments_between(buffer, first + offsets[number], stop)


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


def _starts_by_table(spans: Sequence[Span], offsets: Sequence[int]) -> list[int]:
    """The number of each frame's first fragment; none when the table is empty or does not fit."""
    if not offsets or not spans:
        return []
    base = spans[0][0]
    numbers = {begin - base: number for number, (begin, _) in enumerate(spans)}
    starts = [numbers.get(offset, -1) for offset in offsets]
    rises = all(first < second for first, second in pairwise(starts))
    return starts if starts[0] == 0 and rises else []


def _starts_without_table(buffer: Buffer, spans: Sequence[Span], frames: int) -> list[int]:
    """The same by their count, or by how frames begin; none when it cannot be told."""
    if len(spans) == frames:
        return list(range(frames))
    starts = [
        number
        for number, (begin, _) in enumerate(spans)
        if bytes(buffer[begin : begin + 8]).startswith(_BEGINNINGS)
    ]
    return starts if starts and starts[0] == 0 else []


def padded_fragments(buffer: memoryview, at: int) -> tuple[list[bytes | memoryview], int]:
    """The items of encapsulated pixel data, each fragment padded to an even length.

    Args:
        at: where the value begins.
    Returns:
        the pieces of the value with its delimiter, and where it ended.
    Raises:
        CannotUnderstand: the items are broken.
    """
    offsets, spans, end = read_fragments(buffer, at)
    if all((until - begin) % 2 == 0 for begin, until in spans):
        return [buffer[at:end]], end
    first = spans[0][0] - _HEAD
    odd = [begin - _HEAD - first for begin, until in spans if (until - begin) % 2]
    moved = [offset + sum(before < offset for before in odd) for offset in offsets]
    pieces: list[bytes | memoryview] = [_item_head(4 * len(moved))]
    pieces.append(struct.pack(f"<{len(moved)}L", *moved))
    for begin, until in spans:
        padding = (until - begin) % 2
        pieces += (_item_head(until - begin + padding), buffer[begin:until], b"\0" * padding)
    return [*pieces, buffer[end - _HEAD : end]], end


def _item_head(length: int) -> bytes:
    return struct.pack("<HHL", ITEM >> 16, ITEM & 0xFFFF, length)
