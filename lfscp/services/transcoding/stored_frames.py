"""Reads single frames of stored objects by their offsets, as their bytes are stored.

Rules: nothing is decoded, and no frame is read for another one's sake. Compressed frames are found
by an offset table; without one the fragments are walked once. Where the frames of an object are is
kept for the next requests, for as long as its file is the same, in bounded memory. Uncompressed
frames come in little endian; each begins with its own first bit.
Source: PS3.5 sections 7.3, 8.1.1, 8.2, annex A.4; PS3.18 section 8.7.3.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from typing import IO, BinaryIO, Final, cast

from lfscp.archive.store.partial_dataset import PartialDataset
from lfscp.archive.store.stored_dataset import StoredDataset, dataset_of
from lfscp.dicom.encoding.elements import Encoding
from lfscp.dicom.encoding.encapsulated import (
    FrameSpans,
    OffsetTable,
    Span,
    frame_by_table,
    frames_of,
    read_fragments,
    read_offset_table,
)
from lfscp.dicom.encoding.image_pixel import (
    ImagePixel,
    PixelElement,
    image_pixel,
    read_pixel_element,
)
from lfscp.dicom.reading.header import DEFLATED, encoding_of
from lfscp.services.transcoding.decoded import DecodingError
from lfscp.services.transcoding.frame_layouts import LAYOUTS, Layout, key_of
from lfscp.services.transcoding.native_frames import (
    NativeFrames,
    bits_from,
    in_little_endian,
    word_bytes,
)

PIECE: Final = 1 << 18  # bytes read at a time; whole words of any size
_ITEM_HEAD: Final = 8  # bytes
_OFFSET_BYTES: Final = 4  # of a frame, in the Basic Offset Table


class NoPixelsError(DecodingError):
    """The object has no pixel data."""


class NoFrameError(DecodingError):
    """There is no such frame."""


class StoredFrames:
    """The frames of one object whose file is open; for one thread.

    Args:
        file: open for as long as this is used; or parts of an object in a bucket.
        transfer_syntax_uid: of the dataset.
        dataset_offset: where it begins.
    Attributes:
        key: names the file and its content.
    Raises:
        NoPixelsError: there are no pixels.
        DatasetError: the dataset is broken.
    """

    def __init__(
        self, file: IO[bytes] | PartialDataset, transfer_syntax_uid: str, dataset_offset: int
    ) -> None:
        self.transfer_syntax_uid = transfer_syntax_uid
        self._file = file
        self._offset = dataset_offset
        self._parts = file if isinstance(file, PartialDataset) else None
        self._dataset = self._parts.dataset if self._parts is not None else None
        self._is_deflated = transfer_syntax_uid in DEFLATED
        self._encoding: Encoding = encoding_of(transfer_syntax_uid)
        self.key = key_of(file, dataset_offset)
        self._layout = LAYOUTS.get(self.key) or self._read_layout()

    @property
    def dataset(self) -> StoredDataset:
        """The whole dataset, mapped or inflated when it is first asked for."""
        if self._dataset is None:
            self._dataset = dataset_of(
                cast(IO[bytes], self._file), self.transfer_syntax_uid, self._offset
            )
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

    def _need(self, begin: int, end: int) -> None:
        """Have these bytes of the dataset, if they are fetched in parts."""
        if self._parts is not None:
            self._parts.need(begin, end)

    def _read_layout(self) -> Layout:
        if self._parts is not None:
            self._parts.read_head()
        content, encoding = self.dataset.content, self.dataset.encoding
        element, values = read_pixel_element(content, encoding)
        if element is None or element.begin >= element.end:
            raise NoPixelsError("the object holds no pixel data")
        image = image_pixel(values, encoding)
        table = None
        if element.is_encapsulated:
            frames, extended = image.number_of_frames, element.extended_offsets
            self._need(element.begin, element.begin + _ITEM_HEAD + _OFFSET_BYTES * frames)
            table = read_offset_table(content, element.begin, frames, extended)
        layout = Layout(image, element, table)
        LAYOUTS.keep(self.key, layout)
        return layout

    def require(self, number: int) -> None:
        """Refuse a frame, counted from 0, that is not there.

        Raises:
            NoFrameError: it is not.
        """
        frames = self.image.number_of_frames
        if not 0 <= number < frames:
            raise NoFrameError(f"there is no frame {number + 1}, the object has {frames}")

    def have(self, numbers: Sequence[int]) -> None:
        """Have these frames, and what describes them, if the object is fetched in parts.

        Raises:
            NoFrameError, DatasetError: as `spans_of`.
            TooManyPartsError, OSError: they cannot be fetched in parts, or at all.
        """
        if self._parts is None:
            return
        self._parts.read_head()
        self._need_table()
        for number in numbers:
            if self.is_compressed:
                self.spans_of(number)
            else:
                begin, end = self._bits_of(number)
                first = self.element.begin
                self._need(first + begin // 8, first + -(-end // 8))

    def _need_table(self) -> None:
        frames, begin = self.image.number_of_frames, self.element.begin
        if self.is_compressed:
            self._need(begin, begin + _ITEM_HEAD + _OFFSET_BYTES * frames)

    def spans_of(self, number: int) -> Sequence[Span]:
        """Where the bytes of a compressed frame are in the dataset.

        Raises:
            NoFrameError: there is no such frame.
            DatasetError: the fragments are broken, or it cannot be told which are the frame's.
        """
        self.require(number)
        table, spans = self._layout.table, self._layout.spans
        if table is not None:
            self._need_frame(table, number)
            found = frame_by_table(self.dataset.content, table, number)
            if found:
                return found
        return (spans or self._walk())[number]

    def _need_frame(self, table: OffsetTable, number: int) -> None:
        first, offsets = table
        is_last = number + 1 >= len(offsets)
        end = len(self.dataset.content) if is_last else first + offsets[number + 1]
        self._need(first + offsets[number], end)

    def _walk(self) -> FrameSpans:
        """Find all frames, and keep where they are."""
        self._need(self.element.begin, len(self.dataset.content))
        content, element, image = self.dataset.content, self.element, self.image
        fragments = read_fragments(content, element.begin)
        self.dataset.forget()
        spans = frames_of(content, fragments, image.number_of_frames, element.extended_offsets)
        self._layout = Layout(image, element, None, spans)
        LAYOUTS.keep(self.key, self._layout)
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

    def file_spans(self, number: int) -> tuple[int, list[Span]] | None:
        """The file's descriptor, and where a frame is in it; None if it is not there as it is sent.

        Raises what `pieces` does.
        """
        if self._is_deflated or self._parts is not None:
            return None
        spans = self.spans_of(number) if self.is_compressed else self._native_span(number)
        found = [(self._offset + begin, self._offset + end) for begin, end in spans]
        return (cast(IO[bytes], self._file).fileno(), found) if found else None

    def _native_span(self, number: int) -> list[Span]:
        (begin, end), first = self._bits_of(number), self.element.begin
        is_whole = self._encoding.byteorder == "little" and not begin % 8 and not end % 8
        return [(first + begin // 8, first + end // 8)] if is_whole else []

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
            self._need(self.element.begin, len(self.dataset.content))
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
            yield bits_from(self._words(at // 8, -(-until // 8)), shift, until - at)

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
        if self._is_deflated or self._parts is not None:
            self._need(begin, end)
            return bytes(self.dataset.content[begin:end])
        descriptor = cast(IO[bytes], self._file).fileno()
        return os.pread(descriptor, end - begin, self._offset + begin)
