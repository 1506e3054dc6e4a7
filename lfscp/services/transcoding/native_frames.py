"""Reads uncompressed frames strip by strip: every pixel, or every nth row and column.

Rules: memory holds the result and one strip. A reduced frame has stored values only, so palettes,
padding and overlays in unused bits keep their meaning.
Source: PS3.5 section 8.1.1, annex D; PS3.3 section C.7.6.3.1.2.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO, Final

import numpy as np

from lfscp.dicom.encoding.image_pixel import (
    DOUBLE_FLOAT_PIXEL_DATA,
    FLOAT_PIXEL_DATA,
    ImagePixel,
    PixelElement,
)
from lfscp.services.transcoding.decoded import Array, DecodingError

SUBSAMPLED: Final = frozenset({"YBR_FULL_422", "YBR_PARTIAL_422"})
_WORD_BYTES: Final = {b"OW": 2, b"OF": 4, b"OL": 4, b"OD": 8, b"OV": 8}
_FLOAT_BITS: Final = {FLOAT_PIXEL_DATA: 32, DOUBLE_FLOAT_PIXEL_DATA: 64}
_STRIP: Final = 1 << 20  # cells


@dataclass(frozen=True, slots=True)
class NativeFrames:
    """The uncompressed pixel data of an object.

    Args:
        file: its pixel data begins at `element.begin`.
        is_big_endian: whether the pixel data is in big endian.
    Raises:
        DecodingError: the size of the cells is not supported.
    """

    file: BinaryIO
    element: PixelElement
    image: ImagePixel
    is_big_endian: bool = False

    @property
    def bits(self) -> int:
        """Of one cell: 1, or a multiple of 8 up to 64."""
        bits = _FLOAT_BITS.get(self.element.tag, self.image.bits_allocated)
        if bits != 1 and (bits % 8 or not 8 <= bits <= 64):
            raise DecodingError(f"{bits} bits allocated are not supported")
        return bits

    @property
    def _length(self) -> int:
        return self.element.end - self.element.begin

    @property
    def is_subsampled(self) -> bool:
        """Whether two pixels of YBR_FULL_422 share their chrominance, judged by the length."""
        image = self.image
        if image.photometric_interpretation not in SUBSAMPLED or image.samples_per_pixel != 3:
            return False
        return self._length * 8 < image.samples * self.bits * image.number_of_frames

    @property
    def photometric(self) -> str:
        """The photometric interpretation of a frame, in which each pixel has its chrominance."""
        named = self.image.photometric_interpretation
        return named.removesuffix("_422") if self.image.samples_per_pixel == 3 else named

    @property
    def bytes_per_pixel(self) -> int:
        """Bytes of one pixel in memory."""
        return self._dtype.itemsize * self.image.samples_per_pixel

    @property
    def _dtype(self) -> np.dtype[Any]:
        bits = self.bits
        if self.element.tag in _FLOAT_BITS:
            return np.dtype(f"<f{bits // 8}")
        size = next(each for each in (8, 16, 32, 64) if bits <= each) // 8
        return np.dtype("u1" if size == 1 else f"<u{size}")

    def frame(self, number: int, reduction: int = 1) -> Array:
        """One frame, counted from 0.

        Args:
            reduction: 1 reads all pixels, 2 every second row and column, and so on.
        Returns:
            Shape: (rows, columns) or (rows, columns, samples). It may be read-only.
        Raises:
            DecodingError: the frame is not there.
        """
        if (number + 1) * self.cells_in_frame * self.bits > 8 * self._length:
            raise self._too_short(number)
        image = self.image
        planes, strips = list(self._planes(number)), list(self._strips(reduction))
        if image.samples_per_pixel == len(strips) == reduction == 1:
            return self._rows(number, *planes[0][1:], strips[0])[:, :, 0]
        rows, columns = (-(-size // reduction) for size in (image.rows, image.columns))
        out = np.empty((rows, columns, image.samples_per_pixel), self._dtype)
        for plane, first, cells in planes:
            for strip in strips:
                values = self._rows(number, first, cells, strip)
                lines = slice(-(-strip.start // reduction), -(-strip.stop // reduction))
                out[lines, :, plane] = values[:: strip.step, ::reduction]
        return out if image.samples_per_pixel > 1 else out[:, :, 0]

    @property
    def cells_in_frame(self) -> int:
        """Stored cells of one frame."""
        if self.is_subsampled:
            return self.image.rows * self.image.columns * 2
        return self.image.samples

    @staticmethod
    def _too_short(number: int) -> DecodingError:
        return DecodingError(f"it ends before the end of frame {number + 1}")

    def _planes(self, number: int) -> Iterator[tuple[slice, int, int]]:
        """Each plane: its samples, where it begins, and how many cells a row has."""
        image, first = self.image, number * self.cells_in_frame
        if self.is_subsampled:
            yield slice(0, 3), first, 2 * image.columns
        elif image.planar_configuration == 1 and image.samples_per_pixel > 1:
            for plane in range(image.samples_per_pixel):
                begin = first + plane * image.rows * image.columns
                yield slice(plane, plane + 1), begin, image.columns
        else:
            yield slice(0, image.samples_per_pixel), first, image.samples_per_pixel * image.columns

    def _strips(self, reduction: int) -> Iterator[slice]:
        """The rows to read at a time; the step is the reduction."""
        rows, width = self.image.rows, max(1, self.image.columns * self.image.samples_per_pixel)
        if self.is_subsampled and self.image.columns % 2:  # pairs of pixels pass the row's end
            yield slice(0, rows, reduction)
        elif reduction * width > _STRIP // 16:  # one row of several
            yield from (slice(row, row + 1, 1) for row in range(0, rows, reduction))
        else:
            step = max(1, _STRIP // width // reduction) * reduction
            for first in range(0, rows, step):
                yield slice(first, min(first + step, rows), reduction)

    def _rows(self, number: int, first: int, cells: int, rows: slice) -> Array:
        """Some rows. Shape: (rows, columns, samples)."""
        count = (rows.stop - rows.start) * cells
        values = self._cells(number, first + rows.start * cells, count)
        if self.is_subsampled:
            # Each of two pixels gets the chrominance they share (PS3.3 section C.7.6.3.1.2).
            pairs = values.reshape(-1, 4)  # luminance of both, blue, red
            return pairs[:, [0, 2, 3, 1, 2, 3]].reshape(-1, self.image.columns, 3)
        return values.reshape(rows.stop - rows.start, self.image.columns, -1)

    def _cells(self, number: int, first: int, count: int) -> Array:
        element, bits = self.element, self.bits
        unit = 8 * (word_bytes(element.vr) if self.is_big_endian else 1)
        begin, end = first * bits, (first + count) * bits
        start, stop = begin // unit * (unit // 8), -(-end // unit) * (unit // 8)
        self.file.seek(element.begin + start)
        content = self.file.read(max(0, min(stop, self._length) - start))
        content = in_little_endian(content, element.vr, is_big_endian=self.is_big_endian)
        skipped = begin - 8 * start
        values = _from_cells(content[skipped // 8 :], count, bits, skipped % 8)
        if len(values) < count:
            raise self._too_short(number)
        return values.view(self._dtype)


def word_bytes(vr: bytes) -> int:
    """Bytes of the words that a value of pixels is made of."""
    return _WORD_BYTES.get(vr, 1)


def in_little_endian(content: bytes, vr: bytes, *, is_big_endian: bool) -> bytes:
    """Swap the words of a value of a big endian object: OW, OF, OD and so on.

    Source: PS3.5 section 7.3.
    """
    width = word_bytes(vr) if is_big_endian else 1
    if width == 1:
        return content
    content += bytes(-len(content) % width)
    turned = bytearray(len(content))
    for position in range(width):
        turned[position::width] = content[width - 1 - position :: width]
    return bytes(turned)


def _from_cells(content: bytes, count: int, bits: int, skipped: int = 0) -> Array:
    """Read little endian cells, of 1 bit or of whole bytes, behind `skipped` (0 to 7) bits.

    Shape: (count,) or shorter if there are not enough; unsigned.
    """
    raw = np.frombuffer(content, np.uint8)
    if bits == 1:
        return np.unpackbits(raw, bitorder="little")[skipped : skipped + count]
    size = bits // 8
    raw = raw[: min(count, len(raw) // size) * size]
    if size in (1, 2, 4, 8):
        return raw.view(f"<u{size}")
    wider = np.zeros((len(raw) // size, 4 if size < 4 else 8), np.uint8)
    wider[:, :size] = raw.reshape(-1, size)
    return wider.view(f"<u{wider.shape[1]}").reshape(-1)


def bits_from(content: bytes, shift: int, count: int) -> bytes:
    """So many bits from a bit on, as bytes whose last has zeros behind them."""
    raw = np.frombuffer(content, np.uint8)
    if shift:
        following = np.append(raw[1:], np.uint8(0))
        raw = (raw >> np.uint8(shift)) | (following << np.uint8(8 - shift))
    out = raw[: -(-count // 8)].copy()
    if count % 8:
        out[-1] &= (1 << count % 8) - 1
    return out.tobytes()
