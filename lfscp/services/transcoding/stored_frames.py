"""Reads single frames of stored objects by their offsets, as their bytes are stored.

Rules: nothing is decoded, and no frame is read for another one's sake. Compressed frames are found
by an offset table; without one the fragments are walked once. Where the frames of an object are is
kept for the next requests, for as long as its file is the same, in bounded memory. Uncompressed
frames come in little endian; each begins with its own first bit.
Source: PS3.5 sections 7.3, 8.1.1, 8.2, annex A.4; PS3.18 section 8.7.3.
"""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import IO, BinaryIO, Final, cast

import numpy as np

from lfscp.archive.store.stored_dataset import StoredDataset, dataset_of
from lfscp.dicom.elements import Encoding
from lfscp.dicom.encapsulated import (
    FrameSpans,
    OffsetTable,
    Span,
    frame_by_table,
    frames_of,
    read_fragments,
    read_offset_table,
)
from lfscp.dicom.header import DEFLATED, encoding_of
from lfscp.dicom.image_pixel import ImagePixel, PixelElement, image_pixel, read_pixel_element
from lfscp.services.transcoding.decoded import DecodingError
from lfscp.services.transcoding.native_frames import NativeFrames, in_little_endian, word_bytes

PIECE: Final = 1 << 18  # bytes read at a time; whole words of any size
_MAX_KEPT: Final = 256  # objects
_MAX_NUMBERS: Final = 2_000_000  # of offsets and spans of all kept objects, 8 bytes each


class NoPixelsError(DecodingError):
    """The object has no pixel data."""


class NoFrameError(DecodingError):
    """There is no such frame."""


@dataclass(frozen=True, slots=True)
class _Layout:
    """Where the frames of an object are; positions count from the beginning of the dataset."""

    image: ImagePixel
    element: PixelElement
    table: OffsetTable | None = None
    spans: FrameSpans | None = None

    @property
    def numbers(self) -> int:
        """How many numbers it keeps."""
        in_table = len(self.table.offsets) if self.table is not None else 0
        in_spans = 2 * self.spans.fragments + len(self.spans) if self.spans is not None else 0
        return len(self.element.extended_offsets) + in_table + in_spans


class _Layouts:
    """The layouts that were used last. Any thread may call any method."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: OrderedDict[tuple[object, ...], _Layout] = OrderedDict()
        self._numbers = 0

    def get(self, key: tuple[object, ...]) -> _Layout | None:
        with self._lock:
            found = self._kept.get(key)
            if found is not None:
                self._kept.move_to_end(key)
            return found

    def keep(self, key: tuple[object, ...], layout: _Layout) -> None:
        with self._lock:
            before = self._kept.pop(key, None)
            self._numbers += layout.numbers - (before.numbers if before is not None else 0)
            self._kept[key] = layout
            while self._kept and (len(self._kept) > _MAX_KEPT or self._numbers > _MAX_NUMBERS):
                self._numbers -= self._kept.popitem(last=False)[1].numbers


_LAYOUTS: Final = _Layouts()


class StoredFrames:
    """The frames of one object whose file is open; for one thread.

    Args:
        file: open for as long as this is used.
        transfer_syntax_uid: of the dataset.
        dataset_offset: where it begins.
    Attributes:
        key: names the file and its content.
    Raises:
        NoPixelsError: there are no pixels.
        DatasetError: the dataset is broken.
    """

    def __init__(self, file: IO[bytes], transfer_syntax_uid: str, dataset_offset: int) -> None:
        self.transfer_syntax_uid = transfer_syntax_uid
        self._descriptor = file.fileno()
        self._file = file
        self._offset = dataset_offset
        self._dataset: StoredDataset | None = None
        self._is_deflated = transfer_syntax_uid in DEFLATED
        self._encoding: Encoding = encoding_of(transfer_syntax_uid)
        state = os.fstat(self._descriptor)
        self.key = (state.st_dev, state.st_ino, state.st_size, state.st_mtime_ns, dataset_offset)
        self._layout = _LAYOUTS.get(self.key) or self._read_layout()

    @property
    def dataset(self) -> StoredDataset:
        """The whole dataset, mapped or inflated when it is first asked for."""
        if self._dataset is None:
            self._dataset = dataset_of(self._file, self.transfer_syntax_uid, self._offset)
        return self._dataset

    @property
    def image(self) -> ImagePixel:
        """What the header says of the pixels."""
        return self._layout.image

    @property
    def element(self) -> PixelElement:
        """Where the pixels are in the dataset."""
        return self._layout.element

    @property
    def is_compressed(self) -> bool:
        """Whether the frames are in fragments."""
        return self.element.is_encapsulated

    def _read_layout(self) -> _Layout:
        content, encoding = self.dataset.content, self.dataset.encoding
        element, values = read_pixel_element(content, encoding)
        if element is None or element.begin >= element.end:
            raise NoPixelsError("the object holds no pixel data")
        image = image_pixel(values, encoding)
        table = None
        if element.is_encapsulated:
            frames, extended = image.number_of_frames, element.extended_offsets
            table = read_offset_table(content, element.begin, frames, extended)
        layout = _Layout(image, element, table)
        _LAYOUTS.keep(self.key, layout)
        return layout

    def require(self, number: int) -> None:
        """Refuse a frame, counted from 0, that is not there.

        Raises:
            NoFrameError: it is not.
        """
        frames = self.image.number_of_frames
        if not 0 <= number < frames:
            raise NoFrameError(f"there is no frame {number + 1}, the object has {frames}")

    def spans_of(self, number: int) -> Sequence[Span]:
        """Where the bytes of a compressed frame are in the dataset.

        Raises:
            NoFrameError: there is no such frame.
            DatasetError: the fragments are broken, or it cannot be told which are the frame's.
        """
        self.require(number)
        table, spans = self._layout.table, self._layout.spans
        if table is not None:
            found = frame_by_table(self.dataset.content, table, number)
            if found:
                return found
        return (spans or self._walk())[number]

    def _walk(self) -> FrameSpans:
        """Find all frames, and keep where they are."""
        content, element, image = self.dataset.content, self.element, self.image
        fragments = read_fragments(content, element.begin)
        self.dataset.forget()
        spans = frames_of(content, fragments, image.number_of_frames, element.extended_offsets)
        self._layout = _Layout(image, element, None, spans)
        _LAYOUTS.keep(self.key, self._layout)
        return spans

    def size_of(self, number: int) -> int:
        """Bytes of a frame as `pieces` gives it; raises as that does."""
        if self.is_compressed:
            return sum(end - begin for begin, end in self.spans_of(number))
        begin, end = self._bits_of(number)
        return -(-(end - begin) // 8)

    def pieces(self, number: int) -> Iterator[bytes]:
        """The bytes of a frame, a piece at a time.

        Args:
            number: counted from 0.
        Raises:
            NoFrameError: it is not there.
            DecodingError: the size of its cells is not supported.
            DatasetError: the fragments are broken.
        """
        if not self.is_compressed:
            return self._native_pieces(*self._bits_of(number))
        return self._pieces_of(self.spans_of(number))

    def _pieces_of(self, spans: Sequence[Span]) -> Iterator[bytes]:
        for begin, end in spans:
            for at in range(begin, end, PIECE):
                yield self._read(at, min(at + PIECE, end))

    def all_pieces(self) -> Iterator[bytes]:
        """The whole value: of uncompressed pixels in little endian, else all fragments.

        Raises:
            DatasetError: the fragments are broken.
        """
        if self.is_compressed:
            spans = read_fragments(self.dataset.content, self.element.begin).spans
            return self._pieces_of(spans)
        return self._all_words()

    def _all_words(self) -> Iterator[bytes]:
        begin, end = self.element.begin, self.element.end
        for at in range(0, end - begin, PIECE):
            yield self._words(at, min(at + PIECE, end - begin))

    def _bits_of(self, number: int) -> tuple[int, int]:
        """Where an uncompressed frame begins and ends, in bits of the value."""
        self.require(number)
        native = NativeFrames(cast(BinaryIO, self._file), self.element, self.image)
        size = native.cells_in_frame * native.bits
        begin, end = number * size, (number + 1) * size
        if end > 8 * (self.element.end - self.element.begin):
            raise NoFrameError(f"the pixel data ends before the end of frame {number + 1}")
        return begin, end

    def _native_pieces(self, begin: int, end: int) -> Iterator[bytes]:
        shift = begin % 8
        if not shift and not end % 8:
            for at in range(begin // 8, end // 8, PIECE):
                yield self._words(at, min(at + PIECE, end // 8))
            return
        for at in range(begin, end, 8 * PIECE):
            until = min(at + 8 * PIECE, end)
            yield _from_bit(self._words(at // 8, -(-until // 8)), shift, until - at)

    def _words(self, begin: int, end: int) -> bytes:
        """Bytes of the value of uncompressed pixels, in little endian."""
        first = self.element.begin
        if self._encoding.byteorder == "little":
            return self._read(first + begin, first + end)
        vr, unit = self.element.vr, word_bytes(self.element.vr)
        start = begin // unit * unit
        stop = min(-(-end // unit) * unit, self.element.end - first)
        words = in_little_endian(self._read(first + start, first + stop), vr, is_big_endian=True)
        return words[begin - start : end - start]

    def _read(self, begin: int, end: int) -> bytes:
        if self._is_deflated:
            return bytes(self.dataset.content[begin:end])
        return os.pread(self._descriptor, end - begin, self._offset + begin)


def _from_bit(content: bytes, shift: int, count: int) -> bytes:
    """So many bits from a bit on, as bytes whose last has zeros behind them."""
    raw = np.frombuffer(content, np.uint8)
    if shift:
        following = np.append(raw[1:], np.uint8(0))
        raw = (raw >> np.uint8(shift)) | (following << np.uint8(8 - shift))
    out = raw[: -(-count // 8)].copy()
    if count % 8:
        out[-1] &= (1 << count % 8) - 1
    return out.tobytes()
