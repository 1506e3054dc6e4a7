"""Reads uncompressed frames strip by strip: every pixel, or every nth row and column.

Rules: memory holds the result and one strip. A reduced frame has values that are stored, none that
is made up: palettes, padding and overlays in unused bits mean what they meant.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO, Final

import numpy as np
from numpy.typing import NDArray

from lfscp.web.imaging.byte_order import WORD_BYTES, in_little_endian
from lfscp.web.imaging.errors import PixelDataError
from lfscp.web.imaging.object_header import PixelDataPlace
from lfscp.web.imaging.pixel_format import PixelFormat, from_cells

Array = NDArray[Any]
SUBSAMPLED: Final = frozenset({"YBR_FULL_422", "YBR_PARTIAL_422"})
_FLOAT_BITS: Final = {"FloatPixelData": 32, "DoubleFloatPixelData": 64}
_STRIP: Final = 1 << 20  # cells


@dataclass(frozen=True, slots=True)
class NativeCells:
    """The uncompressed pixel data of an object.

    Args:
        file: at whose `place.offset` the pixel data begins.
    Raises:
        PixelDataError: cells of a size that nobody reads.
    """

    file: BinaryIO
    place: PixelDataPlace
    layout: PixelFormat
    big_endian: bool

    @property
    def bits(self) -> int:
        """Of one cell: 1, or a multiple of 8 up to 64."""
        bits = _FLOAT_BITS.get(self.place.keyword, self.layout.allocated)
        if bits != 1 and (bits % 8 or not 8 <= bits <= 64):
            raise PixelDataError(f"{bits} bits allocated are not supported")
        return bits

    @property
    def is_subsampled(self) -> bool:
        """Whether two pixels of YBR_FULL_422 share their chrominance.

        They do unless the length says that they do not.
        """
        layout = self.layout
        if layout.photometric not in SUBSAMPLED or layout.samples != 3:
            return False
        return self.place.length * 8 < layout.samples_in_frame * self.bits * layout.frames

    @property
    def photometric(self) -> str:
        """How to understand the cells."""
        named = self.layout.photometric
        is_spread = named in SUBSAMPLED and self.layout.samples == 3 and not self.is_subsampled
        return named.removesuffix("_422") if is_spread else named

    @property
    def bytes_per_pixel(self) -> int:
        """In memory."""
        return self._dtype.itemsize * self.layout.samples

    @property
    def _dtype(self) -> np.dtype[Any]:
        bits = self.bits
        if self.place.keyword in _FLOAT_BITS:
            return np.dtype(f"<f{bits // 8}")
        size = next(each for each in (8, 16, 32, 64) if bits <= each) // 8
        return np.dtype("u1" if size == 1 else f"<u{size}")

    def frame(self, number: int, reduction: int = 1) -> Array:
        """One frame, counted from 0.

        Args:
            reduction: 1 reads all pixels, 2 every second row and column, and so on.
        Returns:
            Shape: (rows, columns) or (rows, columns, samples).
        Raises:
            PixelDataError: it is not there.
        """
        self._require_whole(number)
        layout = self.layout
        shape = (-(-layout.rows // reduction), -(-layout.columns // reduction), layout.samples)
        out = np.empty(shape, self._dtype)
        for plane, first, cells in self._planes(number):
            for rows in self._strips(reduction):
                values = self._rows(number, first, cells, rows)
                lines = slice(-(-rows.start // reduction), -(-rows.stop // reduction))
                out[lines, :, plane] = values[:: rows.step, ::reduction]
        return out if layout.samples > 1 else out[:, :, 0]

    def _require_whole(self, number: int) -> None:
        bits = self._cells_in_frame * self.bits
        if (number + 1) * bits > 8 * self.place.length:
            raise self._too_short(number)

    @property
    def _cells_in_frame(self) -> int:
        if self.is_subsampled:
            return self.layout.rows * self.layout.columns * 2
        return self.layout.samples_in_frame

    @staticmethod
    def _too_short(number: int) -> PixelDataError:
        return PixelDataError(f"it ends before the end of frame {number + 1}")

    def _planes(self, number: int) -> Iterator[tuple[slice, int, int]]:
        """Which samples, where they begin, and how many cells a row of them has."""
        layout, first = self.layout, number * self._cells_in_frame
        if self.is_subsampled:
            yield slice(0, 3), first, 2 * layout.columns
        elif layout.is_planar and layout.samples > 1:
            for plane in range(layout.samples):
                begin = first + plane * layout.rows * layout.columns
                yield slice(plane, plane + 1), begin, layout.columns
        else:
            yield slice(0, layout.samples), first, layout.samples * layout.columns

    def _strips(self, reduction: int) -> Iterator[slice]:
        """Rows to read at a time; the step is the one by which they are reduced."""
        rows, width = self.layout.rows, max(1, self.layout.columns * self.layout.samples)
        if self.is_subsampled and self.layout.columns % 2:  # pairs of pixels pass the row's end
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
            return _spread(values).reshape(-1, self.layout.columns, 3)
        return values.reshape(rows.stop - rows.start, self.layout.columns, -1)

    def _cells(self, number: int, first: int, count: int) -> Array:
        """Some cells, by their number."""
        place, bits = self.place, self.bits
        unit = 8 * (WORD_BYTES.get(place.vr, 1) if self.big_endian else 1)
        begin, end = first * bits, (first + count) * bits
        start, stop = begin // unit * (unit // 8), -(-end // unit) * (unit // 8)
        self.file.seek(place.offset + start)
        content = self.file.read(max(0, min(stop, place.length) - start))
        content = in_little_endian(content, place.vr, big_endian=self.big_endian)
        skipped = begin - 8 * start
        values = from_cells(content[skipped // 8 :], count, bits, skipped % 8)
        if len(values) < count:
            raise self._too_short(number)
        return values.view(self._dtype)


def _spread(values: Array) -> Array:
    """Give each of two pixels the chrominance they share (PS3.3 section C.7.6.3.1.2)."""
    pairs = values.reshape(-1, 4)  # luminance of both, blue, red
    return pairs[:, [0, 2, 3, 1, 2, 3]]
