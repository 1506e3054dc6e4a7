"""Turns the stored cells of a frame into what a screen shows. Pure: no files, no HTTP.

Rules: the order is that of PS3.3 section C.11 and PS3.4 section N.2: stored values, modality
transformation, VOI transformation, polarity; overlays on top. If a step makes no sense, the picture
is shown without it, and the omission is reported.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from pydicom.dataset import Dataset

from lfscp.dicom.encoding.image_pixel import ImagePixel
from lfscp.services.transcoding.decoded import Array
from lfscp.web.imaging.colour import PALETTE, by_palettes, palettes_of, to_rgb
from lfscp.web.imaging.counted_values import (
    counts_at_ends,
    counts_of_cells,
    may_count_ends,
    strips,
)
from lfscp.web.imaging.errors import LookupTableError, Omission
from lfscp.web.imaging.functional_groups import holders, items, value
from lfscp.web.imaging.lookup_tables import LookupTable, read_table
from lfscp.web.imaging.modality import Modality, cell_values, modality_of
from lfscp.web.imaging.overlays import has_embedded, overlays_on
from lfscp.web.imaging.padding import integer_padding, padding_of
from lfscp.web.imaging.pixel_format import pixel_format
from lfscp.web.imaging.windows import (
    PERCENTILES,
    Window,
    apply_window,
    fitting_window,
    fitting_window_of,
    window_in,
)

_LOOKED_AT: Final = 1 << 21  # pixels sampled for a window around values
_BINARY: Final = Window(0.5, 1, "LINEAR_EXACT")  # of one bit: black and white


@dataclass(frozen=True, slots=True)
class Frame:
    """One decoded frame.

    It keeps the stored cells, and is transformed strip by strip, so that large frames need little
    memory in between.

    Args:
        cells: Shape: (rows, columns), as stored, when grey; (rows, columns, 3) uint8, as shown,
            when in colour.
        header: the object's attributes without the pixel data.
        number: counted from 0.
        modality: brings stored values into the units that windows are given in; None for colours.
        voi: the object's own window or table; None when it names none.
        overlays: Shape: (rows, columns), bool; true where an overlay is drawn.
        is_inverse: whether small values are white.
        omissions: what the picture lacks.
        reduction: the divisor of rows and columns; they are rounded up.
    """

    cells: Array
    header: Dataset
    number: int
    modality: Modality | None = None
    voi: Window | LookupTable | None = None
    overlays: Array | None = None
    is_inverse: bool = False
    omissions: tuple[Omission, ...] = ()
    reduction: int = 1

    @property
    def is_colour(self) -> bool:
        """Whether it has three samples; then no window applies."""
        return self.cells.ndim == 3

    @property
    def size(self) -> int:
        """Bytes in memory."""
        return self.cells.nbytes + (0 if self.overlays is None else self.overlays.nbytes)

    @property
    def values(self) -> Array:
        """All values after the modality transformation.

        Shape: (rows, columns) float32 or float64 when grey, (rows, columns, 3) uint8 when in
        colour.
        """
        return self.strip(slice(None))[0]

    def strip(self, rows: slice) -> tuple[Array, Array | None]:
        """The values of some rows, and where they are padding, which is shown black."""
        if self.modality is None:
            return self.cells[rows], None
        stored = self.modality.stored(self.cells[rows])
        padding = padding_of(stored, self.header)
        values = self.modality.apply(stored)
        if stored.dtype.kind == "f" and padding is not None:
            values[np.isnan(values)] = 0
        return values, padding


def frame_of(
    cells: Array,
    photometric: str,
    header: Dataset,
    number: int,
    reduction: int = 1,
) -> Frame:
    """Turn the cells of one frame into colours, or into the units that windows are given in.

    Args:
        cells: Shape: (rows, columns) or (rows, columns, 3); unsigned with all bits, or floating
            point.
        photometric: their interpretation.
        reduction: the divisor of rows and columns; they are rounded up.
    """
    layout = pixel_format(header)
    embedded = cells if cells.dtype.kind == "u" and has_embedded(header) else None
    overlays, omissions = overlays_on(header, number, cells.shape, embedded, reduction)
    convert = _to_colours(cells, photometric, layout, header, omissions)
    if convert is None:
        return _grey(cells, layout, header, number, overlays, omissions)
    rows, columns = cells.shape[:2]
    is_place = cells.dtype == np.uint8 and cells.ndim == 3 and cells.flags.writeable
    colours = cells if is_place else np.empty((rows, columns, 3), np.uint8)
    for each in strips(rows, columns):
        is_signed = layout.is_signed and cells.ndim == 2
        colours[each] = convert(cell_values(cells[each], layout, signed=is_signed))
    return Frame(colours, header, number, overlays=overlays, omissions=tuple(omissions))


def _to_colours(
    cells: Array, photometric: str, layout: ImagePixel, header: Dataset, omissions: list[Omission]
) -> Callable[[Array], Array] | None:
    """The way from stored values to bytes of RGB; None for grey ones."""
    if cells.ndim == 3:
        return lambda values: to_rgb(values, photometric, layout.bits_stored)
    if photometric == PALETTE:
        try:
            palettes = palettes_of(header, signed=layout.is_signed)
        except LookupTableError as error:
            omissions.append(Omission("its palette", str(error)))
        else:
            return lambda values: by_palettes(values, palettes)
    return None


def _grey(
    cells: Array,
    layout: ImagePixel,
    header: Dataset,
    number: int,
    overlays: Array | None,
    omissions: list[Omission],
) -> Frame:
    modality = modality_of(cells, layout, header, number, omissions)
    voi = _voi(header, number, omissions, signed=modality.signed)
    inverse = _is_inverse(header, layout)
    frame = Frame(cells, header, number, modality, voi, overlays, inverse, tuple(omissions))
    if voi is None and layout.bits_stored == 1 and _is_binary(frame):
        return replace(frame, voi=_BINARY)
    return frame


def _is_binary(frame: Frame) -> bool:
    values = (frame.strip(rows)[0] for rows in strips(*frame.cells.shape[:2]))
    return all(each.min() >= 0 and each.max() <= 1 for each in values)


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


def _is_inverse(header: Dataset, layout: ImagePixel) -> bool:
    """Whether small values are white.

    MONOCHROME1 and INVERSE say the same thing, and stand together (PS3.3 section C.8.11.3.1.2).
    Where they disagree, the shape counts: it says what becomes of the VOI transformation's output.
    """
    shape = str(value(header, "PresentationLUTShape") or "").strip()
    if shape in ("IDENTITY", "INVERSE"):
        return shape == "INVERSE"
    return layout.photometric_interpretation == "MONOCHROME1"


def to_display(frame: Frame, window: Window | None = None, *, overlays: bool = True) -> Array:
    """Turn a frame into what a screen shows.

    Args:
        window: None for the object's own window or VOI LUT, or for one that fits its values.
        overlays: whether to draw overlays, in white.
    Returns:
        Shape: (rows, columns) or (rows, columns, 3), uint8, C order.
    """
    shown = frame.cells if frame.is_colour else _shades(frame, window)
    if overlays and frame.overlays is not None:
        if frame.is_colour:
            shown = np.array(shown, order="C")
        shown[frame.overlays] = 255
    return np.ascontiguousarray(shown)


def window_around(frame: Frame) -> Window:
    """A window around nearly all values of a grey frame.

    Values of up to 16 bits are counted. Of other large frames, some rows and columns are sampled.
    """
    assert frame.modality is not None  # noqa: S101 - colours have no window
    cells = frame.cells
    if cells.dtype.kind == "u" and cells.dtype.itemsize <= 2:
        return fitting_window_of(*_counted(frame, frame.modality))
    step = max(1, math.ceil(math.sqrt(cells.size / _LOOKED_AT)))
    sample = replace(frame, cells=np.ascontiguousarray(cells[::step, ::step]))
    return fitting_window(*sample.strip(slice(None)))


def _counted(frame: Frame, modality: Modality) -> tuple[Array, Array]:
    """The values of a frame without padding, ascending, and how often each is there."""
    found = _counted_ends(frame, modality)
    if found is not None:
        return found
    cells, counts = counts_of_cells(frame.cells, is_signed=modality.layout.is_signed)
    stored = modality.stored(cells)
    padding = padding_of(stored, frame.header)
    values = modality.apply(stored)
    if padding is not None:
        values, counts = values[~padding], counts[~padding]
    order = np.argsort(values, kind="stable")
    return values[order], counts[order]


def _counted_ends(frame: Frame, modality: Modality) -> tuple[Array, Array] | None:
    """The same of the values at both ends, which is all that a window needs; None if it is not.

    The modality transformation must keep the order of values, or turn it round.
    """
    if modality.table is not None or not may_count_ends(frame.cells):
        return None
    stored = modality.stored(frame.cells)
    found = counts_at_ends(stored, integer_padding(frame.header, stored.dtype), PERCENTILES)
    if found is None:
        return None
    values, counts = modality.apply(found[0]), found[1]
    if not np.isfinite(values).all():
        return None
    return (values, counts) if modality.slope > 0 else (values[::-1], counts[::-1])


def _shades(frame: Frame, window: Window | None) -> Array:
    voi = window or frame.voi or window_around(frame)
    cells = frame.cells
    shown = np.empty(cells.shape, np.uint8)
    table = _table(frame, voi)
    for rows in strips(*cells.shape[:2]):
        if table is None:
            shown[rows] = _shade(frame, rows, voi)
        else:  # numpy would convert the cells' own type slowly; no cell is beyond the table
            np.take(table, cells[rows].astype(np.intp), out=shown[rows], mode="clip")
    return shown


def _table(frame: Frame, voi: Window | LookupTable) -> Array | None:
    """The shade of each possible cell, if there are fewer than pixels."""
    cells = frame.cells
    if cells.dtype.kind != "u" or cells.dtype.itemsize > 2:
        return None
    count = int(cells.max()) + 1
    if count > cells.size:
        return None
    each = np.arange(count, dtype=cells.dtype)[np.newaxis]
    table: Array = _shade(replace(frame, cells=each), slice(None), voi)[0]
    return table


def _shade(frame: Frame, rows: slice, voi: Window | LookupTable) -> Array:
    values, padding = frame.strip(rows)
    shades = apply_window(values, voi) if isinstance(voi, Window) else voi.to_bytes(values)
    if frame.is_inverse:
        shades = 255 - shades
    if padding is not None:
        shades[padding] = 0
    return shades
