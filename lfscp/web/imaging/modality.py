"""Applies the modality transformation: from stored grey values to the units of windows.

Source: PS3.3 section C.11.1.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from pydicom.dataset import Dataset

from lfscp.dicom.encoding.image_pixel import ImagePixel
from lfscp.services.transcoding.decoded import Array
from lfscp.web.imaging.errors import LookupTableError, Omission
from lfscp.web.imaging.functional_groups import first_number, holder, holders, items, value
from lfscp.web.imaging.lookup_tables import LookupTable, read_table

_FLOAT32_BITS: Final = 23  # that a float32 keeps of a whole number, without the first
# X-ray angiographic, radiofluoroscopic, biplane: the modality transformation gives values for
# measuring; the stored values are for display (PS3.3 section C.8.7.1.1.2).
_DISPLAYED_AS_STORED: Final = frozenset(f"1.2.840.10008.5.1.4.1.1.12.{each}" for each in (1, 2, 3))


@dataclass(frozen=True, slots=True)
class Modality:
    """From a grey frame's cells to the units that windows are given in.

    Args:
        layout: of the cells.
        table: a modality LUT; without one slope and intercept count.
        dtype: of the values.
        signed: whether values may be below 0, as a VOI LUT's first value then may.
    """

    layout: ImagePixel
    dtype: Any
    signed: bool
    slope: float = 1.0
    intercept: float = 0.0
    table: LookupTable | None = None

    def stored(self, cells: Array) -> Array:
        """The stored values in some cells."""
        return cell_values(cells, self.layout, signed=self.layout.is_signed)

    def apply(self, stored: Array) -> Array:
        """The values for some stored ones."""
        if self.table is not None:
            return self.table.look_up(stored).astype(self.dtype)
        values = stored.astype(self.dtype)
        with np.errstate(over="ignore", invalid="ignore"):
            if self.slope != 1:
                values *= self.dtype(self.slope)
            if (self.slope, self.intercept) != (1.0, 0.0):
                values += self.dtype(self.intercept)
        return values


def modality_of(
    cells: Array,
    layout: ImagePixel,
    header: Dataset,
    number: int,
    omissions: list[Omission],
) -> Modality:
    is_float = cells.dtype.kind == "f"

    def kind(slope: float, intercept: float) -> Any:
        return _float_for(cells.dtype, layout, slope, intercept, is_float=is_float)

    if str(value(header, "SOPClassUID")) in _DISPLAYED_AS_STORED:
        return Modality(layout, kind(1.0, 0.0), layout.is_signed)
    for item in holders(header, number, "ModalityLUTSequence"):
        try:
            tables = items(item, "ModalityLUTSequence")[:1]
            if tables:
                table = read_table(tables[0], header, signed=layout.is_signed)
                return Modality(layout, np.float32, signed=False, table=table)
        except LookupTableError as error:
            omissions.append(Omission("its modality LUT", str(error)))
        break
    slope, intercept = rescale_of(header, number)
    signed = layout.is_signed
    if (slope, intercept) != (1.0, 0.0):
        signed = min(slope * each + intercept for each in layout.stored_range) < 0
    return Modality(layout, kind(slope, intercept), signed, slope, intercept)


def _float_for(
    dtype: np.dtype[Any], layout: ImagePixel, slope: float, intercept: float, *, is_float: bool
) -> Any:
    """The smallest floating point type that keeps all values distinct."""
    if is_float:
        exact = dtype.itemsize <= 4 and (slope, intercept) == (1.0, 0.0)
    else:
        steps = abs(intercept / slope) + (1 << layout.bits_stored)
        exact = steps <= 1 << _FLOAT32_BITS and 1e-20 < abs(slope) < 1e20
    return np.float32 if exact else np.float64


def rescale_of(header: Dataset, number: int) -> tuple[float, float]:
    """Slope and intercept for a frame; a slope of 0, which leaves no picture, counts as 1."""
    source = holder(header, number, "RescaleSlope", "RescaleIntercept")
    slope = first_number(source, "RescaleSlope")
    return slope or 1.0, first_number(source, "RescaleIntercept") or 0.0


def cell_values(cells: Array, layout: ImagePixel, *, signed: bool) -> Array:
    """Take the stored bits out of cells, with their sign.

    Args:
        cells: unsigned; floating point cells stay as they are.
    Returns:
        Same shape and size of a value, signed or unsigned.
    """
    if cells.dtype.kind == "f" or layout.bits_allocated == 1:
        return cells
    bits = 8 * cells.dtype.itemsize
    left, right = bits - 1 - layout.high_bit, bits - layout.bits_stored
    if left > 0:
        cells = cells << cells.dtype.type(left)
    values = cells.view(f"i{cells.dtype.itemsize}") if signed else cells
    return values >> values.dtype.type(right) if right > 0 else values
