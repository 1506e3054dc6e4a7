"""Makes the elements that change in a dataset whose pixels are decoded, frame by frame.

Rules: the first frame is decoded at once, because its colours describe all. The others are decoded
as they are read, in their order, some of them ahead if there is room for that. They may still fail
then, so the reader must not end what it sends as a whole before the last one is there.
Source: PS3.5 sections 8.1 and 8.2, annex A.1 to A.3.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from typing import Final

import numpy as np

from lfscp.dicom.conversion.converter import Edit
from lfscp.dicom.encoding.encapsulated import PIXEL_DATA
from lfscp.dicom.encoding.image_pixel import (
    EXTENDED_OFFSET_TABLE,
    EXTENDED_OFFSET_TABLE_LENGTHS,
    PHOTOMETRIC_INTERPRETATION,
    PLANAR_CONFIGURATION,
    ImagePixel,
)
from lfscp.services.transcoding.decoded import DecodingError, FramePieces
from lfscp.services.transcoding.frames import Finish, Frames

_ENCAPSULATED_TOTAL_LENGTH: Final = 0x7FE00003  # Encapsulated Pixel Data Value Total Length
_WITHOUT_A_NAME: Final = "YBR_PARTIAL"  # PS3.3 has it with shared chrominance only
MAX_PIXEL_BYTES: Final = 0xFFFFFFFE  # what a length of 32 bits can say


def decoded_pixels(
    frames: Frames,
    *,
    room_bytes: float,
    between: Callable[[], None],
    may_begin: Callable[[], bool] = lambda: False,
) -> dict[int, Edit | None]:
    """The elements that change.

    Args:
        room_bytes: as `Frames.pieces` takes it.
        between: called between two frames, when none is in memory.
        may_begin: whether one more frame may be begun while others are in memory.
    Raises:
        DecodingError: the first frame cannot be decoded, or all are too large for an object.
        MoreMemoryNeededError: as `Frames.pieces`; reading the pixels may raise it too.
    """
    image = frames.image
    size = bytes_of(image)
    if size > MAX_PIXEL_BYTES:
        raise DecodingError(f"{size >> 20} MB of pixels, the limit is {MAX_PIXEL_BYTES >> 20}")
    first = frames.pieces(0, room_bytes=room_bytes)
    photometric = first.photometric_interpretation
    if photometric == _WITHOUT_A_NAME:
        raise DecodingError("decoded YBR_PARTIAL_422 is not supported")
    pixels = _Pixels(_InOrder(frames, first, room_bytes, may_begin), first, between)
    edits: dict[int, Edit | None] = {
        EXTENDED_OFFSET_TABLE: None,
        EXTENDED_OFFSET_TABLE_LENGTHS: None,
        _ENCAPSULATED_TOTAL_LENGTH: None,
        PIXEL_DATA: Edit(b"OW" if image.bits_allocated > 8 else b"OB", [pixels]),
    }
    if photometric != image.photometric_interpretation:
        text = photometric.encode("latin_1")
        edits[PHOTOMETRIC_INTERPRETATION] = Edit(b"CS", [text + b" " * (len(text) % 2)])
    is_planar = image.planar_configuration != 0 or not frames.says(PLANAR_CONFIGURATION)
    if image.samples_per_pixel > 1 and is_planar:
        edits[PLANAR_CONFIGURATION] = Edit(b"US", [b"\0\0"])
    return edits


def bytes_of(image: ImagePixel) -> int:
    """Bytes of all frames, decoded: cells of one bit follow each other across frames."""
    return -(-image.samples * image.bits_allocated * image.number_of_frames // 8)


class _InOrder:
    """Gives the frames in their order, and begins with the following ones when it may."""

    def __init__(
        self,
        frames: Frames,
        first: FramePieces,
        room_bytes: float,
        may_begin: Callable[[], bool],
    ) -> None:
        self.image = frames.image
        self._frames = frames
        self._room_bytes = room_bytes
        self._may_begin = may_begin
        self._begun: deque[Finish] = deque([lambda: first])
        self._next = 1

    @property
    def has_begun(self) -> bool:
        """Whether a frame that was begun is still to be given."""
        return bool(self._begun)

    def following(self) -> FramePieces:
        """The next frame; the pieces of the last one must have been read."""
        if not self._begun:
            self._begin()
        while self._next < self.image.number_of_frames and self._may_begin():
            self._begin()
        return self._begun.popleft()()

    def _begin(self) -> None:
        self._begun.append(self._frames.begin(self._next, room_bytes=self._room_bytes))
        self._next += 1


class _Pixels:
    """The value of Pixel Data, of even length; read once (PS3.5 8.1.1, annex D for bits)."""

    def __init__(self, frames: _InOrder, first: FramePieces, between: Callable[[], None]) -> None:
        self._frames = frames
        self._photometric = first.photometric_interpretation
        self._between = between
        self._size = bytes_of(frames.image)

    def __len__(self) -> int:
        return self._size + self._size % 2

    def __iter__(self) -> Iterator[memoryview]:
        left = self._size
        for content in self._contents():
            left -= len(content)
            if left < 0:
                break
            yield content
            del content  # before the next is made
        if left:
            raise DecodingError(f"{self._size - left} bytes of pixels, {self._size} are expected")
        if self._size % 2:
            yield memoryview(b"\0")

    def _contents(self) -> Iterator[memoryview]:
        """The bytes of each frame; bits that fill no byte go before the next frame's."""
        is_bits = self._frames.image.bits_allocated == 1
        rest = np.empty(0, np.uint8)
        last = self._frames.image.number_of_frames - 1
        for number in range(last + 1):
            for content in self._pieces():
                if not is_bits:
                    yield content
                else:
                    bits = np.concatenate([rest, np.frombuffer(content, np.uint8)])
                    whole = len(bits) // 8 * 8
                    rest = bits[whole:].copy()
                    yield np.packbits(bits[:whole], bitorder="little").data
                del content
            if number < last and not self._frames.has_begun:
                self._between()
        if len(rest):
            yield np.packbits(rest, bitorder="little").data

    def _pieces(self) -> Iterator[memoryview]:
        frame = self._frames.following()
        if frame.photometric_interpretation != self._photometric:
            found = sorted({self._photometric, frame.photometric_interpretation})
            raise DecodingError(f"its frames are in {' and '.join(found)}")
        return frame.pieces
