"""Passes pixel data on as it is, but for bytes that are no pixels.

Rules: no pixel changes, and nothing is copied but what is overwritten. Bytes behind the last frame
become zeros; a whole frame more than the object says is held back. Of compressed frames the
comments go. An offset table stays if it fits the fragments.
Source: PS3.5 sections 8 and A.4.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from lfscp.deidentification.errors import HeldBackError
from lfscp.deidentification.layout import Found, Writer
from lfscp.deidentification.pixels.codestreams import (
    Span,
    begins_frame,
    require_code_stream,
    telling,
)
from lfscp.dicom.conversion.encoder import Piece, read_pieces
from lfscp.dicom.encoding.elements import UNDEFINED_LENGTH
from lfscp.dicom.encoding.encapsulated import Spans, read_fragments
from lfscp.dicom.encoding.image_pixel import ImagePixel

_HEAD: Final = 8  # bytes of an item's head
_OFFSETS, _LENGTHS = 0x7FE00001, 0x7FE00002  # the Extended Offset Table
_WIDTHS: Final = {0x7FE00008: 32, 0x7FE00009: 64}  # bits of floating point pixels
# Samples that two pixels have together, where colours are fewer than pixels.
_SHARED: Final = {"YBR_FULL_422": 4, "YBR_PARTIAL_422": 4, "YBR_PARTIAL_420": 3}
_END: Final = b"\xfe\xff\xdd\xe0\0\0\0\0"
_NO_TABLE: Final = b"\xfe\xff\x00\xe0\0\0\0\0"


class Joined:
    """Pieces that are one element together."""

    def __init__(self, pieces: Sequence[Piece]) -> None:
        self._pieces = pieces

    def __len__(self) -> int:
        return sum(map(len, self._pieces))

    def __iter__(self) -> Iterator[memoryview]:
        return read_pieces(self._pieces)


def native_pixels(
    dataset: memoryview, found: Found, image: ImagePixel, writer: Writer, vr: bytes
) -> Piece:
    """Pixels that are not compressed.

    Args:
        vr: of the element, where the encoding has one.
    Raises:
        HeldBackError: there is a whole frame more than the object says.
    """
    length = found.end - found.value
    size = _size_of_frame(found.tag, image, length)
    frames = -(-size * image.number_of_frames // 8)
    over = length - frames
    if over * 8 >= size and over > 1:
        raise HeldBackError("it has more pixels than its frames, rows and columns say")
    if writer.encoding.byteorder == "big":  # the odd byte is before the last pixel, in its word
        frames += frames % 2
        over = length - frames
    end = found.value + min(frames, length)
    head = writer.head(found.tag, vr, length)
    if bytes(dataset[found.begin : found.value]) == head and not any(dataset[end : found.end]):
        return dataset[found.begin : found.after]
    return Joined([head, dataset[found.value : end], bytes(max(over, 0))])


def _size_of_frame(tag: int, image: ImagePixel, length: int) -> int:
    """The bits of one frame."""
    pixels = image.rows * image.columns
    whole = pixels * image.samples_per_pixel * _WIDTHS.get(tag, image.bits_allocated)
    shared = _SHARED.get(image.photometric_interpretation)
    if shared is None or whole * image.number_of_frames <= 8 * length:
        return whole
    return pixels * shared * image.bits_allocated // 2


def encapsulated_pixels(
    dataset: memoryview,
    by_tag: dict[int, Found],
    tag: int,
    writer: Writer,
    transfer_syntax_uid: str,
) -> dict[int, Piece]:
    """Pixels in fragments, and the extended offset table if it does not fit; by tag.

    Raises:
        DatasetError: the fragments are broken.
        HeldBackError: a frame is broken, or in a form that may hold text.
    """
    found = by_tag[tag]
    fragments = read_fragments(dataset, found.value)
    spans = fragments.spans
    if spans:
        require_code_stream(dataset[slice(*spans[0])], transfer_syntax_uid)
    begin, end = (spans[0][0] - _HEAD, spans[-1][1]) if spans else (found.end, found.end)
    starts = {start - _HEAD - begin for start, _ in spans}
    table = dataset[found.value : begin]
    fits = starts.issuperset(fragments.offsets) and len(table) == _HEAD + 4 * len(fragments.offsets)
    given = found.declared if found.declared in (b"OB", b"OW") else b"OB"
    content = _overwritten(dataset, begin, end, list(_telling(dataset, spans)))
    head = writer.head(tag, given, UNDEFINED_LENGTH)
    pieces: list[Piece] = [head, table if fits else _NO_TABLE, *content, _END]
    changed: dict[int, Piece] = {tag: Joined(pieces)}
    ends = bytes(dataset[found.end : found.after])
    is_same = head == bytes(dataset[found.begin : found.value]) and ends == _END
    if is_same and fits and len(content) == 1:
        changed[tag] = dataset[found.begin : found.after]
    if not _fits_extended(dataset, by_tag, starts, bool(fragments.offsets), end - begin):
        changed |= {each: b"" for each in (_OFFSETS, _LENGTHS) if each in by_tag}
    return changed


def _fits_extended(
    dataset: memoryview, by_tag: dict[int, Found], starts: set[int], has_basic: bool, size: int
) -> bool:
    """Whether the extended offset table is one of these fragments."""
    numbers = {}
    for tag in (_OFFSETS, _LENGTHS):
        each = by_tag.get(tag)
        if each is None or (each.end - each.value) % 8 or has_basic:
            return False
        numbers[tag] = [
            int.from_bytes(dataset[at : at + 8], "little") for at in range(each.value, each.end, 8)
        ]
    offsets, lengths = numbers[_OFFSETS], numbers[_LENGTHS]
    return (
        len(offsets) == len(lengths)
        and starts.issuperset(offsets)
        and all(length <= size for length in lengths)
    )


def without_table(by_tag: dict[int, Found]) -> dict[int, Piece]:
    """An extended offset table where no pixels are in fragments: it goes."""
    return {tag: b"" for tag in (_OFFSETS, _LENGTHS) if tag in by_tag}


def _telling(dataset: memoryview, spans: Spans) -> Iterator[Span]:
    """Where the bytes are that are overwritten, in order."""
    frame: list[Span] = []
    for span in spans:
        if begins_frame(dataset[span[0] : span[1]]):
            yield from _telling_of(dataset, frame)
            frame = [span]
        elif frame:
            frame.append(span)
    yield from _telling_of(dataset, frame)


def _telling_of(dataset: memoryview, frame: list[Span]) -> Iterator[Span]:
    if len(frame) == 1:
        start, end = frame[0]
        yield from ((start + begin, start + stop) for begin, stop in telling(dataset[start:end]))
    elif frame:  # a segment may be in two fragments
        whole = memoryview(b"".join(dataset[begin:end] for begin, end in frame))
        for begin, end in telling(whole):
            yield from _in_fragments(frame, begin, end)


def _in_fragments(frame: list[Span], begin: int, end: int) -> Iterator[Span]:
    at = 0
    for start, stop in frame:
        size = stop - start
        first, last = max(begin - at, 0), min(end - at, size)
        if first < last:
            yield start + first, start + last
        at += size


def _overwritten(
    dataset: memoryview, begin: int, end: int, told: Sequence[Span]
) -> list[memoryview | bytes]:
    pieces: list[memoryview | bytes] = []
    for start, stop in told:
        pieces += [dataset[begin:start], bytes(stop - start)]
        begin = stop
    return [*pieces, dataset[begin:end]]
