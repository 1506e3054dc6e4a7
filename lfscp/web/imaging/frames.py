"""A frame from its stored cells to what a screen shows. Pure: no files, no HTTP.

The order is that of PS3.3 section C.11 and PS3.4 section N.2: stored values, modality
transformation, VOI transformation, polarity; overlays on top. What makes no sense costs that step,
not the picture, and is told.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from pydicom.dataset import Dataset

from lfscp.dicom.image_pixel import ImagePixel
from lfscp.services.transcoding.decoded import Array
from lfscp.web.imaging.colour import PALETTE, by_palettes, palettes_of, to_rgb
from lfscp.web.imaging.errors import LookupTableError, Omission
from lfscp.web.imaging.functional_groups import holders, items, value
from lfscp.web.imaging.lookup_tables import LookupTable, read_table
from lfscp.web.imaging.modality import Modality, cell_values, modality_of
from lfscp.web.imaging.overlays import has_embedded, overlays_on
from lfscp.web.imaging.padding import padding_of
from lfscp.web.imaging.pixel_format import pixel_format
from lfscp.web.imaging.windows import (
    Window,
    apply_window,
    fitting_window,
    fitting_window_of,
    window_in,
)

_STRIP: Final = 1 << 16  # pixels: what is made of them stays in the processor's cache
_LOOKED_AT: Final = 1 << 21  # pixels, for a window around values that are not counted
_BINARY: Final = Window(0.5, 1, "LINEAR_EXACT")  # of one bit: black and white


@dataclass(frozen=True, slots=True)
class Frame:
    """One decoded frame.

    It keeps what is stored, and comes to what is shown strip by strip: large frames need little
    memory for what is between.

    Args:
        cells: Shape: (rows, columns), as stored, when grey; (rows, columns, 3) uint8, as shown,
            when in colour.
        header: the object's attributes without the pixel data.
        number: counted from 0.
        modality: brings stored values into the units that windows are given in; None for colours.
        voi: the object's own window or table; None when it names none.
        overlays: Shape: (rows, columns), bool; what overlays cover.
        is_inverse: whether small values are white.
        omissions: what it is shown without.
        reduction: by which its rows and columns were divided, rounded up.
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
        """The values of some rows, and which of them are padding, that is shown as black."""
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
    """Bring one frame's cells into colour, or into the units that windows are given in.

    Args:
        cells: Shape: (rows, columns) or (rows, columns, 3); unsigned with all bits, or floating
            point.
        photometric: how to understand them.
        reduction: by which rows and columns were divided, rounded up.
    """
    layout = pixel_format(header)
    embedded = cells if cells.dtype.kind == "u" and has_embedded(header) else None
    overlays, omissions = overlays_on(header, number, cells.shape, embedded, reduction)
    if cells.ndim == 3:
        colours = _in_colour(
            cells,
            lambda rows: to_rgb(
                cell_values(cells[rows], layout, signed=False),
                photometric,
                layout.bits_stored,
            ),
        )
        return Frame(colours, header, number, overlays=overlays, omissions=tuple(omissions))
    if photometric == PALETTE:
        try:
            palettes = palettes_of(header, signed=layout.is_signed)
        except LookupTableError as error:
            omissions.append(Omission("its palette", str(error)))
        else:
            colours = _in_colour(
                cells,
                lambda rows: by_palettes(
                    cell_values(cells[rows], layout, signed=layout.is_signed), palettes
                ),
            )
            return Frame(colours, header, number, overlays=overlays, omissions=tuple(omissions))
    return _grey(cells, layout, header, number, overlays, omissions)


def _in_colour(cells: Array, convert: Callable[[slice], Array]) -> Array:
    """Shape: (rows, columns, 3), uint8; in place of the cells where these are bytes."""
    rows, columns = cells.shape[:2]
    is_place = cells.dtype == np.uint8 and cells.ndim == 3 and cells.flags.writeable
    out = cells if is_place else np.empty((rows, columns, 3), np.uint8)
    for each in _strips(rows, columns):
        out[each] = convert(each)
    return out


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
    strips = (frame.strip(rows)[0] for rows in _strips(*frame.cells.shape[:2]))
    return all(each.min() >= 0 and each.max() <= 1 for each in strips)


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
        window: None takes the object's own window or VOI LUT, or one that fits its values.
        overlays: whether they are drawn, in white.
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

    Few different values are counted; of a large frame of many, some rows and columns are looked at.
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
    counts = np.zeros(1 << 8 * frame.cells.dtype.itemsize, np.int64)
    for rows in _strips(*frame.cells.shape[:2]):
        counts += np.bincount(frame.cells[rows].reshape(-1), minlength=len(counts))
    present = np.flatnonzero(counts)
    stored = modality.stored(present.astype(frame.cells.dtype))
    padding = padding_of(stored, frame.header)
    values, counts = modality.apply(stored), counts[present]
    if padding is not None:
        values, counts = values[~padding], counts[~padding]
    order = np.argsort(values, kind="stable")
    return values[order], counts[order]


def _by_voi(values: Array, voi: Window | LookupTable) -> Array:
    return voi.to_bytes(values) if isinstance(voi, LookupTable) else apply_window(values, voi)


def _strips(rows: int, columns: int) -> Iterator[slice]:
    """Rows to take at a time, so that large frames need little memory for what is between."""
    step = max(1, _STRIP // max(1, columns))
    return (slice(first, first + step) for first in range(0, rows, step))


def _shades(frame: Frame, window: Window | None) -> Array:
    voi = window or frame.voi or window_around(frame)
    cells = frame.cells
    shown = np.empty(cells.shape, np.uint8)
    table = _table(frame, voi)
    for rows in _strips(*cells.shape[:2]):
        if table is None:
            shown[rows] = _shade(frame, rows, voi)
        else:  # numpy takes such indices as they are, the cells' own type it would copy slowly
            np.take(table, cells[rows].astype(np.intp), out=shown[rows], mode="wrap")
    return shown


def _table(frame: Frame, voi: Window | LookupTable) -> Array | None:
    """What becomes of each cell there may be, when these are fewer than pixels."""
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
    shades = _by_voi(values, voi)
    if frame.is_inverse:
        shades = 255 - shades
    if padding is not None:
        shades[padding] = 0
    return shades
