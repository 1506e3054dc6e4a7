"""A frame of a stored object as 8-bit grey or colour values: decoding and display pipeline.

Pure but for reading the file: modality transformation, window or VOI LUT, photometric
interpretation (PS3.3 sections C.7.6.3, C.11.1, C.11.2). Codecs are pydicom's plugins.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, cast

import numpy as np
from numpy.typing import NDArray
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue
from pydicom.pixels.decoders.base import get_decoder
from pydicom.pixels.processing import apply_color_lut, apply_modality_lut, apply_voi_lut
from pydicom.pixels.utils import pixel_array
from pydicom.uid import UID

from lfscp.archive.deflated import require_bounded_file
from lfscp.archive.errors import CannotUnderstand
from lfscp.archive.missing_vrs import open_with_vrs
from lfscp.archive.object_store import StoredFile

MAX_FRAME_BYTES: Final = 512 << 20  # of one decoded frame
_PERCENTILES: Final = (0.5, 99.5)  # of values, when the object names no window

Array = NDArray[Any]


class NoPicture(Exception):  # noqa: N818 - the name says what happened
    """There is no picture of this object; the text says why, fit for the caller."""


@dataclass(frozen=True, slots=True)
class Window:
    """A window in output units of the modality transformation (PS3.3 section C.11.2.1.2)."""

    center: float
    width: float
    function: str = "LINEAR"


@dataclass(frozen=True, slots=True)
class Frame:
    """One decoded frame.

    Args:
        values: after the modality transformation. Shape: (rows, columns) float32 when grey,
            (rows, columns, 3) uint8 when in colour.
        header: the object's attributes without the pixel data.
        number: counted from 0.
    """

    values: Array
    header: Dataset
    number: int

    @property
    def is_colour(self) -> bool:
        """Whether it has three samples; then no window applies."""
        return self.values.ndim == 3


@dataclass(frozen=True, slots=True)
class Description:
    """What a viewer must know of an object before its first frame."""

    frames: int
    rows: int
    columns: int
    is_colour: bool
    window: Window | None
    frame_time_ms: float
    aspect: float  # height of a pixel by its width


def read_header(path: StoredFile) -> Dataset:
    """Read an object's attributes up to the pixel data.

    Raises:
        NoPicture: the file is gone or broken.
    """
    try:
        require_bounded_file(path)
        with open_with_vrs(path) as file:
            return dcmread(file, stop_before_pixels=True)
    except FileNotFoundError:
        raise NoPicture("the file of this object is missing; `lfscp check` tells more") from None
    except CannotUnderstand as error:
        raise NoPicture(f"this object cannot be read: {error.reason}") from None
    except Exception as error:  # pydicom raises what it likes on broken objects
        raise NoPicture(f"this object cannot be read: {type(error).__name__}") from error


def describe(header: Dataset) -> Description:
    """What the header says about the pictures.

    Raises:
        NoPicture: there are none.
    """
    rows, columns = _number(header, "Rows"), _number(header, "Columns")
    if not rows or not columns or "PhotometricInterpretation" not in header:
        raise NoPicture("this object holds no image")
    frame_time = _number(header, "FrameTime") or 0
    if not frame_time and (rate := _number(header, "RecommendedDisplayFrameRate")):
        frame_time = 1000 / rate
    return Description(
        frames=max(1, int(_number(header, "NumberOfFrames") or 1)),
        rows=int(rows),
        columns=int(columns),
        is_colour=int(_number(header, "SamplesPerPixel") or 1) == 3
        or header.PhotometricInterpretation == "PALETTE COLOR",
        window=window_of(header, 0),
        frame_time_ms=float(frame_time),
        aspect=_aspect(header),
    )


def decode(path: StoredFile, header: Dataset, number: int) -> Frame:
    """Decode one frame.

    Args:
        number: counted from 0.
    Raises:
        NoPicture: there is no such frame, no decoder, or the pixel data is broken.
    """
    described = describe(header)
    if not 0 <= number < described.frames:
        raise NoPicture(f"there is no frame {number + 1}, the object has {described.frames}")
    size = described.rows * described.columns * int(_number(header, "SamplesPerPixel") or 1)
    if size * int(_number(header, "BitsAllocated") or 8) // 8 > MAX_FRAME_BYTES:
        raise NoPicture("this frame is too large to be shown")
    _require_decoder(header)
    try:
        with open_with_vrs(path) as file:
            values = pixel_array(file, index=number)
        return Frame(_transformed(values, header, number), header, number)
    except Exception as error:  # codecs and pydicom raise what they like on broken objects
        raise NoPicture(f"the pixel data cannot be decoded: {type(error).__name__}") from error


def _require_decoder(header: Dataset) -> None:
    syntax = UID(str(header.file_meta.get("TransferSyntaxUID", "")))
    if not syntax.is_encapsulated if syntax.is_transfer_syntax else False:
        return
    try:
        decoder = get_decoder(syntax)
    except NotImplementedError:
        raise NoPicture(f"there is no decoder for {syntax.name}") from None
    if not decoder.is_available:
        raise NoPicture(f"no decoder for {syntax.name}: pip install 'lfscp[codecs]'")


def _transformed(values: Array, header: Dataset, number: int) -> Array:
    """Bring stored values into colour, or into the units that windows are given in."""
    if header.PhotometricInterpretation == "PALETTE COLOR":
        values = apply_color_lut(values, header)
    if values.ndim == 3:
        return _to_bytes(values)
    if "ModalityLUTSequence" in header:
        return np.asarray(apply_modality_lut(values, header), np.float32)
    slope, intercept = _rescale(header, number)
    return values.astype(np.float32) * np.float32(slope) + np.float32(intercept)


def _to_bytes(values: Array) -> Array:
    if values.dtype == np.uint8:
        return values
    highest = int(values.max(initial=1))
    shift = max(0, highest.bit_length() - 8)
    return (values >> shift).astype(np.uint8)


def to_display(frame: Frame, window: Window | None = None) -> Array:
    """Turn a frame into what a screen shows.

    Args:
        window: None takes the object's own window or VOI LUT, or one that fits its values.
    Returns:
        Shape: (rows, columns) or (rows, columns, 3), uint8, C order.
    """
    if frame.is_colour:
        return np.ascontiguousarray(frame.values)
    window = window or window_of(frame.header, frame.number)
    if window is None and "VOILUTSequence" in frame.header:
        shown = _by_table(frame)
    else:
        shown = apply_window(frame.values, window or fitting_window(frame.values, frame.header))
    if frame.header.PhotometricInterpretation == "MONOCHROME1":
        shown = 255 - shown
    return shown


def _by_table(frame: Frame) -> Array:
    """Apply the VOI LUT (PS3.3 section C.11.2.1.1)."""
    try:
        looked_up = apply_voi_lut(frame.values.astype(np.int32), frame.header)
    except Exception:  # noqa: BLE001 - a broken table must not hide the picture
        return apply_window(frame.values, fitting_window(frame.values, frame.header))
    highest = max(1, int(looked_up.max(initial=1)))
    return (looked_up.astype(np.float32) * (255 / highest)).astype(np.uint8)


def apply_window(values: Array, window: Window) -> Array:
    """Apply a window (PS3.3 sections C.11.2.1.2 and C.11.2.1.3).

    Returns:
        Same shape, uint8.
    """
    center, width = window.center, window.width
    if window.function == "SIGMOID":
        exponent = np.clip(-4 * (values - center) / max(width, 1e-6), -60, 60)
        return (255 / (1 + np.exp(exponent))).astype(np.uint8)
    if window.function == "LINEAR_EXACT":
        scaled = (values - center) / max(width, 1e-6) + 0.5
    else:
        scaled = (values - (center - 0.5)) / max(width - 1, 1e-6) + 0.5
    return (np.clip(scaled, 0, 1) * 255 + 0.5).astype(np.uint8)


def fitting_window(values: Array, header: Dataset) -> Window:
    """A window around nearly all values, padding left out."""
    padding = header.get("PixelPaddingValue")
    inside = values
    if padding is not None:
        slope, intercept = _rescale(header, 0)
        inside = values[values != np.float32(float(padding) * slope + intercept)]
    if inside.size == 0:
        return Window(128, 256)
    low, high = (float(each) for each in np.percentile(inside, _PERCENTILES))
    if high <= low:
        low, high = float(inside.min()), float(inside.max())
    return Window((low + high) / 2, max(high - low, 1.0), "LINEAR_EXACT")


def window_of(header: Dataset, number: int) -> Window | None:
    """The first window that the object names for a frame; None when it names none."""
    source = _functional(header, number, "FrameVOILUTSequence") or header
    center, width = _number(source, "WindowCenter"), _number(source, "WindowWidth")
    if center is None or width is None or width <= 0:
        return None
    return Window(float(center), float(width), str(source.get("VOILUTFunction", "LINEAR")))


def _rescale(header: Dataset, number: int) -> tuple[float, float]:
    source = _functional(header, number, "PixelValueTransformationSequence") or header
    slope, intercept = _number(source, "RescaleSlope"), _number(source, "RescaleIntercept")
    return (1.0 if slope is None else slope), (0.0 if intercept is None else intercept)


def _functional(header: Dataset, number: int, keyword: str) -> Dataset | None:
    """The item of an enhanced object's functional group for a frame (PS3.3 section C.7.6.16)."""
    for groups, index in (
        ("PerFrameFunctionalGroupsSequence", number),
        ("SharedFunctionalGroupsSequence", 0),
    ):
        items = header.get(groups)
        if items and index < len(items) and items[index].get(keyword):
            return cast(Dataset, items[index].get(keyword)[0])
    return None


def _aspect(header: Dataset) -> float:
    """How many times higher than wide a pixel is."""
    for keyword in ("PixelSpacing", "ImagerPixelSpacing", "PixelAspectRatio"):
        values = header.get(keyword)
        try:
            if values is not None and len(values) == 2 and float(values[1]) > 0:
                return float(np.clip(float(values[0]) / float(values[1]), 0.1, 10))
        except (TypeError, ValueError):
            continue
    return 1.0


def _number(header: Dataset, keyword: str) -> float | None:
    """The first value of a numeric attribute; None when absent, empty or no number."""
    value = header.get(keyword)
    if isinstance(value, MultiValue | list | tuple):
        value = value[0] if len(value) else None
    try:
        number = None if value is None or value == "" else float(value)
    except (TypeError, ValueError):
        return None
    return number if number is not None and np.isfinite(number) else None
