"""Gives a grey frame as values of 16 bits, with all that is needed to show them as a picture.

A viewer windows these values by itself, and sees what the node would render: `frames` has the
steps, and this module their numbers. What cannot be said in 16 bits and two factors has no such
form: colours, more bits, floating point.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from pydicom.dataset import Dataset

from lfscp.services.transcoding.decoded import Array
from lfscp.web.imaging.errors import NoPictureError
from lfscp.web.imaging.frames import Frame, window_around
from lfscp.web.imaging.functional_groups import holder, value
from lfscp.web.imaging.modality import Modality, rescale_of
from lfscp.web.imaging.padding import integer_padding
from lfscp.web.imaging.pixel_format import pixel_format
from lfscp.web.imaging.windows import Window

MAX_PIXELS: Final = 1 << 24
_WORD: Final = 16
_CT: Final = "1.2.840.10008.5.1.4.1.1.2"
_MAX_UNITS: Final = 16  # characters


@dataclass(frozen=True, slots=True)
class StoredValues:
    """The values of a grey frame.

    Args:
        content: Shape: (rows, columns), int16 or uint16 in little endian, C order.
        overlays: Shape: (rows, columns), bool; None if there is none.
        slope, intercept: bring the values into the units of windows.
        units: Rescale Type, such as HU; empty if it is not known.
        precision: of the numbers that the node computes pictures with.
        padding: lowest and highest value that is shown black whatever the window.
        is_inverse: whether small values are white.
        window: that the frame is shown with if none is asked for; None if it has a VOI LUT.
    """

    content: Array
    overlays: Array | None
    slope: float
    intercept: float
    units: str
    precision: Literal["float32", "float64"]
    padding: tuple[int, int] | None
    is_inverse: bool
    window: Window | None


def has_stored_values(header: Dataset) -> bool:
    """Whether the frames of an object may have this form, as far as its header tells."""
    layout = pixel_format(header)
    return (
        layout.samples_per_pixel == 1
        and layout.photometric_interpretation.startswith("MONOCHROME")
        and layout.bits_allocated <= _WORD
        and layout.rows * layout.columns <= MAX_PIXELS
    )


def stored_values(frame: Frame) -> StoredValues:
    """The values of a frame.

    Raises:
        NoPictureError: it has no such form.
    """
    modality, cells = frame.modality, frame.cells
    if modality is None or cells.dtype.kind != "u" or cells.dtype.itemsize > 2:
        raise NoPictureError("only grey frames of up to 16 bits are sent as values")
    if frame.reduction > 1 or cells.size > MAX_PIXELS:
        raise NoPictureError("this frame is too large to be sent as values")
    stored = modality.stored(cells)
    padding = integer_padding(frame.header, stored.dtype)
    slope, intercept = modality.slope, modality.intercept
    if modality.table is not None:
        if padding is not None:
            raise NoPictureError("a frame with a modality LUT and padding is not sent as values")
        stored, slope, intercept = modality.table.look_up(stored), 1.0, 0.0
    return StoredValues(
        content=np.ascontiguousarray(stored.astype(f"<{stored.dtype.kind}2", copy=False)),
        overlays=frame.overlays,
        slope=slope,
        intercept=intercept,
        units=_units(frame, modality),
        precision="float32" if modality.dtype is np.float32 else "float64",
        padding=padding,
        is_inverse=frame.is_inverse,
        window=_window(frame),
    )


def _units(frame: Frame, modality: Modality) -> str:
    """Rescale Type, if the values are rescaled; CT without one is in HU (PS3.3 C.8.2.1.1.2)."""
    source = holder(frame.header, frame.number, "RescaleSlope", "RescaleIntercept")
    used = (modality.slope, modality.intercept)
    if not len(source) or rescale_of(frame.header, frame.number) != used:
        return ""
    found = value(source, "RescaleType")
    default = "HU" if str(value(frame.header, "SOPClassUID")) == _CT else ""
    return str(found or default).strip()[:_MAX_UNITS]


def _window(frame: Frame) -> Window | None:
    if frame.voi is None:
        return window_around(frame)
    return frame.voi if isinstance(frame.voi, Window) else None
