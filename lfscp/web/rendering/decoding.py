"""Describes the pictures of a stored object, and decodes one frame of it.

The steps are in `imaging`; here they are put in order, from a file to a frame.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from pydicom.dataset import Dataset

from lfscp.archive.store.object_store import StoredFile
from lfscp.dicom.encoding.image_pixel import ImagePixel
from lfscp.dicom.errors import DatasetError
from lfscp.services.transcoding.decoded import DecodingError
from lfscp.web.imaging.cine import FrameTimes, frame_times
from lfscp.web.imaging.colour import PALETTE, require_shown
from lfscp.web.imaging.errors import NoPictureError, Omission, is_lack_of_memory, words_of
from lfscp.web.imaging.frames import Frame, frame_of
from lfscp.web.imaging.functional_groups import holder, numbers
from lfscp.web.imaging.geometry import Geometry, geometry_of
from lfscp.web.imaging.object_header import NO_PIXEL_DATA, place_of
from lfscp.web.imaging.overlays import overlays_of
from lfscp.web.imaging.pixel_data import read_cells
from lfscp.web.imaging.pixel_format import pixel_format
from lfscp.web.imaging.room import UNLIMITED, Room
from lfscp.web.imaging.stored_values import has_stored_values
from lfscp.web.imaging.windows import Window, has_voi_lut, other_windows_of, window_of

_SPACINGS: Final = ("PixelSpacing", "ImagerPixelSpacing", "NominalScannedPixelSpacing")


@dataclass(frozen=True, slots=True)
class Description:
    """What a viewer needs to know of an object before its first frame."""

    frames: int
    rows: int
    columns: int
    is_colour: bool
    window: Window | None
    has_voi_lut: bool  # that is shown instead of a window
    times: FrameTimes
    aspect: float  # height of a pixel by its width
    overlays: int
    geometry: Geometry
    other_windows: list[tuple[str, Window]]  # with their explanations
    has_values: bool  # whether frames may be asked for as values


def describe(header: Dataset, number: int = 0) -> Description:
    """Describe the pictures of an object.

    Args:
        header: from `read_header`.
        number: of the frame whose window and aspect are wanted.
    Raises:
        NoPictureError: it has none.
    """
    layout = _image_of(header)
    window = window_of(header, number)
    return Description(
        frames=layout.number_of_frames,
        rows=layout.rows,
        columns=layout.columns,
        is_colour=layout.samples_per_pixel == 3 or layout.photometric_interpretation == PALETTE,
        window=window,
        has_voi_lut=window is None and has_voi_lut(header, number),
        times=frame_times(header, layout.number_of_frames),
        aspect=aspect_of(header, number),
        overlays=len(overlays_of(header)),
        geometry=geometry_of(header, number),
        other_windows=other_windows_of(header, number),
        has_values=has_stored_values(header),
    )


def frames_of(header: Dataset) -> int:
    """How many frames an object has; raises NoPictureError if it has none."""
    return _image_of(header).number_of_frames


def decode(
    path: StoredFile, header: Dataset, number: int, edge: int = 0, room: Room = UNLIMITED
) -> Frame:
    """Decode one frame.

    Args:
        header: from `read_header`.
        number: counted from 0.
        edge: longest edge that is of use, in pixels; 0 is any. A frame that does not fit is
            reduced to it, or further.
        room: what it must fit in.
    Raises:
        NoPictureError: there is no such frame, no decoder, or the pixel data is broken.
        NotEnoughMemoryError, MemoryError: it does not fit.
    """
    layout = _image_of(header)
    if not 0 <= number < layout.number_of_frames:
        raise NoPictureError(
            f"there is no frame {number + 1}, the object has {layout.number_of_frames}"
        )
    try:
        cells = read_cells(path, header, number, edge, room)
        frame = frame_of(cells.values, cells.photometric, header, number, cells.reduction)
        return _reduced(frame, layout, edge, cells.reduction) if cells.reduction > 1 else frame
    except NoPictureError:
        raise
    except (DecodingError, DatasetError) as error:
        if is_lack_of_memory(error):
            raise MemoryError from error
        reason = error.reason if isinstance(error, DatasetError) else words_of(error)
        raise NoPictureError(f"the pixel data cannot be decoded: {reason}") from error
    except Exception as error:  # codecs and pydicom raise what they like on broken objects
        if is_lack_of_memory(error):
            raise
        raise NoPictureError("the pixel data cannot be decoded: it is broken") from error


def _reduced(frame: Frame, layout: ImagePixel, edge: int, reduction: int) -> Frame:
    """A frame that was reduced to fit, with an omission if it is smaller than wanted."""
    longest, found = max(layout.rows, layout.columns), max(frame.cells.shape[:2])
    frame = replace(frame, reduction=reduction)
    if found >= min(edge or longest, longest):
        return frame
    reason = f"only {found} of {longest} pixels fit budgets.rendering_mb"
    return replace(frame, omissions=(*frame.omissions, Omission("its full size", reason)))


def _image_of(header: Dataset) -> ImagePixel:
    """The pixel format of a header; raises NoPictureError if there are no pixels to show."""
    layout = pixel_format(header)
    place_of(header)
    if not layout.rows or not layout.columns or not layout.photometric_interpretation:
        raise NoPictureError(NO_PIXEL_DATA)
    require_shown(layout.photometric_interpretation, layout.samples_per_pixel)
    return layout


def aspect_of(header: Dataset, number: int) -> float:
    """The height of a frame's pixels divided by their width.

    Pixel Aspect Ratio counts if no spacing is known (PS3.3 section C.7.6.3.1.7).
    """
    for keyword in (*_SPACINGS, "PixelAspectRatio"):
        values = numbers(holder(header, number, keyword), keyword)
        if len(values) == 2 and min(values) > 0:
            return float(np.clip(values[0] / values[1], 0.1, 10))
    return 1.0
