"""Blackens rectangles in pixels that are not compressed, frame by frame while they are read.

Source: PS3.3 section C.7.6.3; PS3.5 section 8.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from lfscp.deidentification.errors import HeldBackError
from lfscp.dicom.encoding.image_pixel import ImagePixel

Rectangle = tuple[int, int, int, int]
_BLACK: Final = {
    "MONOCHROME1": (0,),
    "MONOCHROME2": (0,),
    "PALETTE COLOR": (0,),
    "RGB": (0, 0, 0),
    "YBR_FULL": (0, 128, 128),
}


class CleanedPixels:
    """The element Pixel Data with rectangles blackened in every frame.

    Args:
        head: of the element.
        pixels: the value as it was.
    Raises:
        HeldBackError: the pixels are laid out in a way that is not supported.
    """

    def __init__(
        self,
        head: bytes,
        pixels: memoryview,
        image: ImagePixel,
        rectangles: Sequence[Rectangle],
    ) -> None:
        self._head = head
        self._pixels = pixels
        self._image = image
        self._width = image.bits_allocated // 8
        self._frame = image.samples * self._width
        self._rectangles = [_within(each, image) for each in rectangles]
        _require_supported(image, len(pixels), self._frame)

    def __len__(self) -> int:
        return len(self._head) + len(self._pixels)

    def __iter__(self) -> Iterator[memoryview]:
        yield memoryview(self._head)
        end = self._frame * self._image.number_of_frames
        for start in range(0, end, self._frame):
            frame = bytearray(self._pixels[start : start + self._frame])
            for rectangle in self._rectangles:
                self._blacken(frame, rectangle)
            yield memoryview(frame)
        if end < len(self._pixels):  # padding; whatever stood there is no pixel
            yield memoryview(bytes(len(self._pixels) - end))

    def _blacken(self, frame: bytearray, rectangle: Rectangle) -> None:
        left, top, width, height = rectangle
        image, cell = self._image, self._width
        black = _BLACK[image.photometric_interpretation]
        for plane, sample, samples in self._planes(black):
            run = b"".join(number.to_bytes(cell, "little") for number in sample) * width
            for row in range(top, top + height):
                at = (plane + row * image.columns * samples + left * samples) * cell
                frame[at : at + len(run)] = run

    def _planes(self, black: tuple[int, ...]) -> Iterator[tuple[int, tuple[int, ...], int]]:
        """Begin of each plane in samples, its black, and its samples of one pixel."""
        if self._image.planar_configuration == 1 and len(black) > 1:
            size = self._image.rows * self._image.columns
            for number, sample in enumerate(black):
                yield number * size, (sample,), 1
        else:
            yield 0, black, len(black)


def _within(rectangle: Rectangle, image: ImagePixel) -> Rectangle:
    left, top, width, height = rectangle
    left, top = min(left, image.columns), min(top, image.rows)
    return left, top, min(width, image.columns - left), min(height, image.rows - top)


def _require_supported(image: ImagePixel, length: int, frame: int) -> None:
    black = _BLACK.get(image.photometric_interpretation)
    if black is None or len(black) != image.samples_per_pixel:
        raise HeldBackError("its pixels have a photometric interpretation that is not cleaned")
    if image.bits_allocated not in (8, 16, 32) or (
        image.bits_allocated != 8 and image.photometric_interpretation == "YBR_FULL"
    ):
        raise HeldBackError("its Bits Allocated are not 8, 16 or 32, and are not cleaned")
    if frame * image.number_of_frames > length:
        raise HeldBackError("it has fewer pixels than it says")
