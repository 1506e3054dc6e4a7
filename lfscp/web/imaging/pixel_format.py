"""How pixels are stored: shape, bits, sign (PS3.3 section C.7.6.3, PS3.5 section 8.1.1)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from lfscp.web.imaging.functional_groups import first_number, value, whole_number

Array = NDArray[Any]
_MAX_US: Final = (1 << 16) - 1  # what the VRs of these attributes hold
_MAX_IS: Final = (1 << 31) - 1
_TOO_MANY_BITS: Final = 65  # of a cell; nobody reads it


@dataclass(frozen=True, slots=True)
class PixelFormat:
    """What a header says about the pixels, with what follows when it says nothing.

    Args:
        high_bit: of the stored bits in a cell of `allocated` bits.
        is_planar: one plane a sample, instead of one pixel after another.
    """

    rows: int
    columns: int
    samples: int
    frames: int
    photometric: str
    allocated: int
    stored: int
    high_bit: int
    is_signed: bool
    is_planar: bool

    @property
    def samples_in_frame(self) -> int:
        """How many values a decoded frame has."""
        return self.rows * self.columns * self.samples

    @property
    def stored_range(self) -> tuple[int, int]:
        """The lowest and the highest value that can be stored."""
        if self.is_signed:
            return -(1 << self.stored - 1), (1 << self.stored - 1) - 1
        return 0, (1 << self.stored) - 1


def pixel_format(header: Dataset) -> PixelFormat:
    """Read it from a header; rows and columns are 0 when there is no image."""
    allocated = whole_number(header, "BitsAllocated", 8, _MAX_US)
    allocated = min(allocated, _TOO_MANY_BITS)
    stored = whole_number(header, "BitsStored", allocated, _MAX_US)
    if not 1 <= stored <= allocated:
        stored = allocated
    high_bit = whole_number(header, "HighBit", stored - 1, _MAX_US)
    if not stored - 1 <= high_bit < allocated:
        high_bit = stored - 1
    return PixelFormat(
        rows=whole_number(header, "Rows", 0, _MAX_US),
        columns=whole_number(header, "Columns", 0, _MAX_US),
        samples=whole_number(header, "SamplesPerPixel", 1, _MAX_US),
        frames=max(1, whole_number(header, "NumberOfFrames", 1, _MAX_IS)),
        photometric=str(value(header, "PhotometricInterpretation") or "").strip(),
        allocated=allocated,
        stored=stored,
        high_bit=high_bit,
        is_signed=first_number(header, "PixelRepresentation") == 1,
        is_planar=first_number(header, "PlanarConfiguration") == 1,
    )


def stored_values(cells: Array, stored: int, high_bit: int, *, signed: bool) -> Array:
    """Take the stored bits out of cells, and nothing else of them, with their sign.

    Args:
        cells: unsigned.
    Returns:
        Same shape and size of a value, signed or unsigned.
    """
    bits = 8 * cells.dtype.itemsize
    left, right = bits - 1 - high_bit, bits - stored
    if left > 0:
        cells = cells << cells.dtype.type(left)
    values = cells.view(f"i{cells.dtype.itemsize}") if signed else cells
    return values >> values.dtype.type(right) if right > 0 else values


def from_cells(content: bytes, count: int, bits: int, skipped: int = 0) -> Array:
    """Read cells that lie one behind the other, the lowest bits first.

    Args:
        content: little endian.
        count: of cells.
        bits: of one cell: 1, or a multiple of 8 up to 64.
        skipped: bits before the first, fewer than 8.
    Returns:
        Shape: (count,), unsigned; fewer when there are not enough.
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
