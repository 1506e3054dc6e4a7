"""Reads the encapsulated frames of a stored object: the bytes that the header says, or an error.

Rules: sent objects and shown pictures are read alike. Bits of a cell outside the sample stay as
they were.
Source: PS3.5 sections 8.1, 8.2 and annex A.4.
"""

from __future__ import annotations

import weakref
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from io import BytesIO
from typing import Final

import numpy as np
from pydicom.pixels.decoders.base import Decoder
from pydicom.uid import UID

from lfscp.archive.store.stored_dataset import StoredDataset
from lfscp.dicom.encoding.encapsulated import (
    PIXEL_DATA,
    FrameSpans,
    Span,
    frames_of,
    one_frame_of,
    read_fragments,
)
from lfscp.dicom.encoding.image_pixel import (
    CELL_BITS,
    ImagePixel,
    PixelElement,
    image_pixel,
    read_pixel_element,
)
from lfscp.services.transcoding.codecs.compressed_frames import decode_compressed
from lfscp.services.transcoding.codecs.decoders import decoder_for
from lfscp.services.transcoding.codecs.working_set import working_set
from lfscp.services.transcoding.decoded import (
    DecodedFrame,
    DecodingError,
    FramePieces,
    MoreMemoryNeededError,
)
from lfscp.services.transcoding.described_layout import laid_out
from lfscp.services.transcoding.native_frames import NativeFrames

# JPIP: the pixel data is not in the object but at a URL (PS3.5 section 8.4.1).
PIXELS_ELSEWHERE: Final = frozenset(
    f"1.2.840.10008.1.2.4.{number}" for number in (94, 95, 204, 205)
)
NATIVE: Final = frozenset(f"1.2.840.10008.1.2{tail}" for tail in ("", ".1", ".2", ".1.99"))
_UNCOMPRESSED_FRAMES: Final = "1.2.840.10008.1.2.1.98"
_DEFLATED_FRAMES: Final = "1.2.840.10008.1.2.8.1"
_SPAN_BYTES: Final = 64  # of memory for one fragment's place
CELLS_IN_FRAGMENTS: Final = frozenset({_UNCOMPRESSED_FRAMES, _DEFLATED_FRAMES})  # need no codec


# Waits for a frame that was begun.
Finish = Callable[[], FramePieces]
# Begins to decode what a codec has compressed: transfer syntax, fragments, header, room in bytes.
Decode = Callable[[str, list[memoryview], ImagePixel, float], Finish]


def not_held(decode: Decode) -> Decode:
    """The same method, which does not hold its object: that holds frames, and so an open file.

    Else the file would be closed only when the interpreter collects garbage.
    """
    method = weakref.WeakMethod(decode)

    def begin(
        transfer_syntax_uid: str, frame: list[memoryview], image: ImagePixel, room: float
    ) -> Finish:
        found = method()
        if found is None:
            raise DecodingError("nobody decodes it any more")
        return found(transfer_syntax_uid, frame, image, room)

    return begin


class Frames:
    """The frames of one dataset.

    Args:
        dataset: as `read_stored_dataset` gives it.
        decode: begins to decode with a codec elsewhere; by default frames are decoded here.
        as_described: for `pieces` of frames without a codec; `decode` does so for the others.
    Raises:
        DecodingError: there are no pixels, no decoder, or no description of the pixels.
        DatasetError: the bytes are broken.
    """

    def __init__(
        self, dataset: StoredDataset, decode: Decode | None = None, *, as_described: bool = False
    ) -> None:
        syntax = dataset.transfer_syntax_uid
        if syntax in PIXELS_ELSEWHERE:
            raise DecodingError(f"{UID(syntax).name} only refers to its pixel data")
        element, values = read_pixel_element(dataset.content, dataset.encoding)
        if element is None:
            raise DecodingError("it holds no pixel data")
        self.element: PixelElement = element
        self.image: ImagePixel = image_pixel(values, dataset.encoding)
        self._said = frozenset(values)
        self._dataset = dataset
        self._decode = decode
        self._as_described = as_described
        self.has_codec = syntax not in CELLS_IN_FRAGMENTS
        self._spans: FrameSpans | None = None
        if not element.is_encapsulated:
            raise DecodingError(f"{UID(syntax).name} without fragments of pixel data")
        if self.has_codec:
            decoder_of(syntax)

    def says(self, tag: int) -> bool:
        """Whether the dataset has this element of the Image Pixel module."""
        return tag in self._said

    def working_set(self) -> int:
        """Bytes of memory that decoding any one frame takes.

        Raises:
            DatasetError: the fragments are broken.
        """
        spans = self._all_spans()
        longest = max(sum(end - begin for begin, end in each) for each in spans)
        kept = _SPAN_BYTES * spans.fragments
        return kept + working_set(self._dataset.transfer_syntax_uid, self.image, longest)

    def decode(self, number: int, *, alone: bool = False) -> DecodedFrame:
        """Decode one frame.

        Args:
            number: counted from 0.
            alone: no other frame is wanted, so a large object is not read as a whole.
        Raises:
            DecodingError: there is no such frame, or it is broken.
            DatasetError: the fragments are broken.
        """
        self._require_frame(number)
        frame = b"".join(self._fragments(number, alone=alone))
        self._dataset.forget()
        with self._said_of(number):
            if not self.has_codec:
                return self._native(frame)
            decoder = decoder_of(self._dataset.transfer_syntax_uid)
            return decode_compressed(decoder, frame, self.image)

    def pieces(self, number: int, *, room_bytes: float, alone: bool = False) -> FramePieces:
        """Decode one frame to read it once; errors may come while it is read.

        Args:
            number, alone: as `decode` takes them.
            room_bytes: memory for what a codestream needs beside the working set.
        Raises:
            MoreMemoryNeededError: the frame needs more than that.
            DecodingError, DatasetError: as `decode`.
        """
        return self.begin(number, room_bytes=room_bytes, alone=alone)()

    def begin(self, number: int, *, room_bytes: float, alone: bool = False) -> Finish:
        """Have a codec elsewhere begin to decode one frame; without one, nothing is done yet.

        Args:
            number, room_bytes, alone: as `pieces` takes them.
        Returns:
            gives what `pieces` does, and raises as that does; called once.
        Raises:
            DecodingError, DatasetError: as `decode`.
        """
        self._require_frame(number)
        if not self.has_codec or self._decode is None:
            return partial(self._decoded_here, number, alone=alone)
        syntax = self._dataset.transfer_syntax_uid
        fragments = self._fragments(number, alone=alone)
        with self._said_of(number):
            finish = self._decode(syntax, fragments, self.image, room_bytes)
        return partial(self._finished, number, finish)

    def _decoded_here(self, number: int, *, alone: bool) -> FramePieces:
        frame = self.decode(number, alone=alone)
        values = laid_out(frame.values, self.image) if self._as_described else frame.values
        content = values.reshape(-1).view(np.uint8).data
        return FramePieces(iter([content]), frame.photometric_interpretation)

    def _finished(self, number: int, finish: Finish) -> FramePieces:
        with self._said_of(number):
            pieces, photometric = finish()
        return FramePieces(self._said_while(number, pieces), photometric)

    def _said_while(self, number: int, pieces: Iterator[memoryview]) -> Iterator[memoryview]:
        with self._said_of(number):
            yield from pieces

    def _fragments(self, number: int, *, alone: bool) -> list[memoryview]:
        content = self._dataset.content
        return [content[begin:end] for begin, end in self.spans_of(number, alone=alone)]

    @contextmanager
    def _said_of(self, number: int) -> Iterator[None]:
        """Add the number of the frame to the reason why it cannot be decoded."""
        try:
            yield
        except MoreMemoryNeededError:
            raise
        except DecodingError as error:
            name = UID(self._dataset.transfer_syntax_uid).name
            error.__traceback__ = None  # else its frames hold it, and an open file (Python 3.12)
            raise DecodingError(f"{name} cannot be decoded: frame {number + 1}: {error}") from None

    def spans_of(self, number: int, *, alone: bool = False) -> tuple[Span, ...]:
        """Where the fragments of one compressed frame are in the dataset's bytes.

        Args, Raises: as `decode`.
        """
        self._require_frame(number)
        if alone:
            frames, extended = self.image.number_of_frames, self.element.extended_offsets
            content, at = self._dataset.content, self.element.begin
            found = one_frame_of(content, at, number, frames, extended)
            if found:
                return found
        return self._all_spans()[number]

    def working_set_of(self, number: int, *, alone: bool = False) -> int:
        """Bytes of memory that decoding one frame takes.

        Args, Raises: as `decode`.
        """
        stored = sum(end - begin for begin, end in self.spans_of(number, alone=alone))
        kept = _SPAN_BYTES * (self._spans.fragments if self._spans is not None else 0)
        return kept + working_set(self._dataset.transfer_syntax_uid, self.image, stored)

    def _all_spans(self) -> FrameSpans:
        if self._spans is None:
            content, at = self._dataset.content, self.element.begin
            frames, extended = self.image.number_of_frames, self.element.extended_offsets
            self._spans = frames_of(content, read_fragments(content, at), frames, extended)
        return self._spans

    def _require_frame(self, number: int) -> None:
        frames = self.image.number_of_frames
        if not 0 <= number < frames:
            raise DecodingError(f"there is no frame {number + 1}, the object has {frames}")

    def _native(self, frame: bytes) -> DecodedFrame:
        """Read a frame of little endian cells in its own fragments, perhaps deflated."""
        image = replace(self.image, number_of_frames=1)
        bits = image.bits_allocated
        if bits not in (1, *CELL_BITS):
            raise DecodingError(f"pixel cells of {bits} bits are not read")
        if self._dataset.transfer_syntax_uid == _DEFLATED_FRAMES:
            frame = _inflated(frame, -(-image.samples * bits // 8))
        native = NativeFrames(BytesIO(frame), PixelElement(PIXEL_DATA, b"OB", 0, len(frame)), image)
        if native.is_subsampled and image.columns % 2:
            raise DecodingError("two pixels share their chrominance, and Columns is odd")
        values = native.frame(0)
        if image.is_signed and bits > 1:
            values = values.view(f"<i{bits // 8}")
        return DecodedFrame(values, native.photometric)


def _inflated(frame: bytes, size: int) -> bytes:
    """Inflate the first bytes of a frame (PS3.5 section A.4.14)."""
    try:
        return zlib.decompressobj(-zlib.MAX_WBITS).decompress(frame, size)
    except zlib.error:
        raise DecodingError("it cannot be inflated") from None


def decoder_of(transfer_syntax_uid: str) -> Decoder:
    """The decoder of a transfer syntax; raises DecodingError if there is none."""
    name = UID(transfer_syntax_uid).name
    try:
        decoder = decoder_for(transfer_syntax_uid)
    except NotImplementedError:
        raise DecodingError(f"there is no decoder for {name}") from None
    if transfer_syntax_uid in NATIVE:
        raise DecodingError(f"compressed pixel data in {name}, which has none")
    if not decoder.is_available:
        raise DecodingError(f"no decoder for {name} is installed: pip install 'lfscp[codecs]'")
    return decoder
