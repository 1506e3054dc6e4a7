"""A frame from its stored cells to what a screen shows. Pure: no files, no HTTP.

The order is that of PS3.3 section C.11 and PS3.4 section N.2: stored values, modality
transformation, VOI transformation, polarity; overlays on top. What makes no sense costs that step,
not the picture, and is told.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from lfscp.web.imaging.colour import PALETTE, by_palettes, palettes_of, to_rgb
from lfscp.web.imaging.errors import LookupTableError, Omission
from lfscp.web.imaging.functional_groups import first_number, holder, holders, items, value
from lfscp.web.imaging.lookup_tables import LookupTable, read_table
from lfscp.web.imaging.overlays import has_embedded, overlays_on
from lfscp.web.imaging.padding import padding_of
from lfscp.web.imaging.pixel_format import PixelFormat, pixel_format, stored_values
from lfscp.web.imaging.windows import Window, apply_window, fitting_window, window_in

Array = NDArray[Any]
_FLOAT32_BITS: Final = 23  # that a float32 keeps of a whole number, without the first
# X-ray angiographic, radiofluoroscopic, biplane: from the modality transformation come values for
# measuring; what is stored is for display (PS3.3 section C.8.7.1.1.2).
_DISPLAYED_AS_STORED: Final = frozenset(f"1.2.840.10008.5.1.4.1.1.12.{each}" for each in (1, 2, 3))
_STRIP: Final = 1 << 20  # pixels
_BINARY: Final = Window(0.5, 1, "LINEAR_EXACT")  # of one bit: black and white


@dataclass(frozen=True, slots=True)
class Frame:
    """One decoded frame.

    Args:
        values: after the modality transformation. Shape: (rows, columns) float32 or float64 when
            grey, (rows, columns, 3) uint8 when in colour.
        header: the object's attributes without the pixel data.
        number: counted from 0.
        voi: the object's own window or table; None when it names none.
        padding: Shape: (rows, columns), bool; what is shown as black.
        overlays: Shape: (rows, columns), bool; what overlays cover.
        is_inverse: whether small values are white.
        omissions: what it is shown without.
    """

    values: Array
    header: Dataset
    number: int
    voi: Window | LookupTable | None = None
    padding: Array | None = None
    overlays: Array | None = None
    is_inverse: bool = False
    omissions: tuple[Omission, ...] = ()

    @property
    def is_colour(self) -> bool:
        """Whether it has three samples; then no window applies."""
        return self.values.ndim == 3

    @property
    def size(self) -> int:
        """Bytes in memory."""
        masks = (self.padding, self.overlays)
        return self.values.nbytes + sum(each.nbytes for each in masks if each is not None)


def frame_of(
    cells: Array, photometric: str, header: Dataset, number: int, high_bit: int | None = None
) -> Frame:
    """Bring one frame's cells into colour, or into the units that windows are given in.

    Args:
        cells: Shape: (rows, columns) or (rows, columns, 3); unsigned with all bits, or floating
            point.
        photometric: how to understand them.
        high_bit: of the stored bits, when it is not the header's.
    """
    layout = pixel_format(header)
    embedded = cells if cells.dtype.kind == "u" and has_embedded(header) else None
    overlays, omissions = overlays_on(header, number, cells.shape, embedded)
    if cells.ndim == 3:
        samples = _stored(cells, layout, high_bit, signed=False)
        colours = to_rgb(samples, photometric, layout.stored)
        return Frame(colours, header, number, overlays=overlays, omissions=tuple(omissions))
    stored = _stored(cells, layout, high_bit, signed=layout.is_signed)
    if photometric == PALETTE:
        try:
            colours = by_palettes(stored, palettes_of(header, signed=layout.is_signed))
            return Frame(colours, header, number, overlays=overlays, omissions=tuple(omissions))
        except LookupTableError as error:
            omissions.append(Omission("its palette", str(error)))
    return _grey(stored, layout, header, number, overlays, omissions)


def _stored(cells: Array, layout: PixelFormat, high_bit: int | None, *, signed: bool) -> Array:
    if cells.dtype.kind == "f" or layout.allocated == 1:
        return cells
    high_bit = layout.high_bit if high_bit is None else high_bit
    return stored_values(cells, layout.stored, high_bit, signed=signed)


def _grey(
    stored: Array,
    layout: PixelFormat,
    header: Dataset,
    number: int,
    overlays: Array | None,
    omissions: list[Omission],
) -> Frame:
    padding = padding_of(stored, header)
    values, signed = _by_modality(stored, layout, header, number, omissions)
    if stored.dtype.kind == "f" and padding is not None:
        values[np.isnan(values)] = 0
    voi = _voi(header, number, omissions, signed=signed)
    if voi is None and layout.stored == 1 and values.min() >= 0 and values.max() <= 1:
        voi = _BINARY
    return Frame(
        values,
        header,
        number,
        voi,
        padding,
        overlays,
        _is_inverse(header, layout),
        tuple(omissions),
    )


def _by_modality(
    stored: Array, layout: PixelFormat, header: Dataset, number: int, omissions: list[Omission]
) -> tuple[Array, bool]:
    """Apply the modality transformation (PS3.3 section C.11.1).

    Returns:
        The values, and whether they may be below 0, as a VOI LUT's first value then may.
    """
    if str(value(header, "SOPClassUID")) in _DISPLAYED_AS_STORED:
        return stored.astype(_float_for(stored, layout, 1.0, 0.0)), layout.is_signed
    for item in holders(header, number, "ModalityLUTSequence"):
        try:
            table = items(item, "ModalityLUTSequence")[:1]
            if table:
                found = read_table(table[0], header, signed=layout.is_signed)
                return found.look_up(stored).astype(np.float32), False
        except LookupTableError as error:
            omissions.append(Omission("its modality LUT", str(error)))
        break
    slope, intercept = rescale_of(header, number)
    kind = _float_for(stored, layout, slope, intercept)
    values = stored.astype(kind)
    if (slope, intercept) == (1.0, 0.0):
        return values, layout.is_signed
    with np.errstate(over="ignore", invalid="ignore"):
        if slope != 1:
            values *= kind(slope)
        values += kind(intercept)
    return values, min(slope * each + intercept for each in layout.stored_range) < 0


def _float_for(stored: Array, layout: PixelFormat, slope: float, intercept: float) -> Any:
    """The smaller floating point type that tells all values apart."""
    if stored.dtype.kind == "f":
        exact = stored.dtype.itemsize <= 4 and (slope, intercept) == (1.0, 0.0)
    else:
        steps = abs(intercept / slope) + (1 << layout.stored)
        exact = steps <= 1 << _FLOAT32_BITS and 1e-20 < abs(slope) < 1e20
    return np.float32 if exact else np.float64


def rescale_of(header: Dataset, number: int) -> tuple[float, float]:
    """Slope and intercept for a frame; a slope of 0 is none, since it leaves no picture."""
    source = holder(header, number, "RescaleSlope", "RescaleIntercept")
    slope = first_number(source, "RescaleSlope")
    return slope or 1.0, first_number(source, "RescaleIntercept") or 0.0


def _voi(
    header: Dataset, number: int, omissions: list[Omission], *, signed: bool
) -> Window | LookupTable | None:
    """The object's own VOI transformation for a frame; of several, a window, then a table."""
    for item in holders(header, number, "WindowCenter", "VOILUTSequence"):
        window = window_in(item)
        if window is not None:
            return window
        for table in items(item, "VOILUTSequence")[:1]:
            try:
                return read_table(table, header, signed=signed)
            except LookupTableError as error:
                omissions.append(Omission("its VOI LUT", str(error)))
        return None
    return None


def _is_inverse(header: Dataset, layout: PixelFormat) -> bool:
    """Whether small values are white.

    MONOCHROME1 and INVERSE say the same thing, and stand together (PS3.3 section C.8.11.3.1.2).
    Where they disagree, the shape counts: it says what becomes of the VOI transformation's output.
    """
    shape = str(value(header, "PresentationLUTShape") or "").strip()
    if shape in ("IDENTITY", "INVERSE"):
        return shape == "INVERSE"
    return layout.photometric == "MONOCHROME1"


def to_display(frame: Frame, window: Window | None = None, *, overlays: bool = True) -> Array:
    """Turn a frame into what a screen shows.

    Args:
        window: None takes the object's own window or VOI LUT, or one that fits its values.
        overlays: whether they are drawn, in white.
    Returns:
        Shape: (rows, columns) or (rows, columns, 3), uint8, C order.
    """
    shown = frame.values if frame.is_colour else _shades(frame, window)
    if overlays and frame.overlays is not None:
        shown = np.array(shown, order="C")
        shown[frame.overlays] = 255
    return np.ascontiguousarray(shown)


def _by_voi(values: Array, voi: Window | LookupTable) -> Array:
    return voi.to_bytes(values) if isinstance(voi, LookupTable) else apply_window(values, voi)


def _strips(rows: int, columns: int) -> Iterator[slice]:
    """Rows to take at a time, so that large frames need little memory for what is between."""
    step = max(1, _STRIP // max(1, columns))
    return (slice(first, first + step) for first in range(0, rows, step))


def _shades(frame: Frame, window: Window | None) -> Array:
    voi = window or frame.voi or fitting_window(frame.values, frame.padding)
    shown = np.empty(frame.values.shape, np.uint8)
    for rows in _strips(*frame.values.shape):
        shown[rows] = _by_voi(frame.values[rows], voi)
    if frame.is_inverse:
        shown = 255 - shown
    if frame.padding is not None:
        shown[frame.padding] = 0
    return shown
