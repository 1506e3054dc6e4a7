"""Finds and applies windows: the object's own, or one that fits its values.

Source: PS3.3 sections C.11.2.1.2, C.11.2.1.3.
"""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass
from typing import Final, Literal, get_args

import numpy as np
from pydicom.dataset import Dataset

from lfscp.services.transcoding.decoded import Array
from lfscp.web.imaging.functional_groups import (
    first_number,
    holder,
    holders,
    items,
    numbers,
    value,
)

PERCENTILES: Final = (0.5, 99.5)  # of values, when the object names no window
_MOST_WINDOWS: Final = 16
_WIDEST: Final = sys.float_info.max
_FLOAT32: Final = 1e30  # what a float32 is sure to hold
Function = Literal["LINEAR", "LINEAR_EXACT", "SIGMOID"]
_FUNCTIONS: Final[dict[str, Function]] = {each: each for each in get_args(Function)}


@dataclass(frozen=True, slots=True)
class Window:
    """A window in output units of the modality transformation (PS3.3 section C.11.2.1.2)."""

    center: float
    width: float
    function: Function = "LINEAR"


def window_in(item: Dataset) -> Window | None:
    """The first window that a dataset names; None if it names none that makes sense."""
    center, width = first_number(item, "WindowCenter"), first_number(item, "WindowWidth")
    if center is None or width is None or width <= 0:
        return None
    function = str(value(item, "VOILUTFunction") or "").strip().upper()
    return Window(center, width, _FUNCTIONS.get(function, "LINEAR"))


def window_of(header: Dataset, number: int) -> Window | None:
    """The first window that the object names for a frame; None if it names none."""
    for item in holders(header, number, "WindowCenter", "VOILUTSequence"):
        return window_in(item)
    return None


def other_windows_of(header: Dataset, number: int) -> list[tuple[str, Window]]:
    """The windows that the object names for a frame beside the first, with their explanations.

    Source: PS3.3 section C.11.2.1.2: several are alternatives.
    """
    item = holder(header, number, "WindowCenter", "VOILUTSequence")
    first = window_in(item)
    if first is None:
        return []
    centers, widths = numbers(item, "WindowCenter"), numbers(item, "WindowWidth")
    names = value(item, "WindowCenterWidthExplanation") or ()
    names = [names] if isinstance(names, str) else list(names)
    pairs = list(zip(centers, widths, strict=False))[1:_MOST_WINDOWS]
    return [
        (
            (str(names[at]).strip() if at < len(names) else "") or f"Window {at + 1}",
            Window(center, width, first.function),
        )
        for at, (center, width) in enumerate(pairs, 1)
        if width > 0
    ]


def has_voi_lut(header: Dataset, number: int) -> bool:
    """Whether the object names a VOI LUT for a frame instead of a window."""
    item = holder(header, number, "WindowCenter", "VOILUTSequence")
    return bool(items(item, "VOILUTSequence"))


def apply_window(values: Array, window: Window) -> Array:
    """Apply a window.

    LINEAR needs a width of 1 or more. Objects with small fractions as values have less; they mean
    LINEAR_EXACT.

    Args:
        values: no NaN.
    Returns:
        Same shape, uint8.
    """
    center, width = window.center, window.width
    if not (abs(center) < _FLOAT32 and 1 / _FLOAT32 < width < _FLOAT32):
        values = values.astype(np.float64)
    with np.errstate(over="ignore"):  # infinity is white, or black
        if window.function == "SIGMOID":
            exponent = np.clip(-4 * (values - center) / width, -60, 60)
            return (255 / (1 + np.exp(exponent))).astype(np.uint8)
        if window.function == "LINEAR_EXACT" or width < 1:
            scaled = (values - center) / width + 0.5
        elif width == 1:  # nothing but black and white
            scaled = (values > center - 0.5).astype(np.float32)
        else:
            scaled = (values - (center - 0.5)) / max(width - 1, 1e-6) + 0.5
        return (np.clip(scaled, 0, 1) * 255 + 0.5).astype(np.uint8)


def fitting_window(values: Array, padding: Array | None = None) -> Window:
    """A window around nearly all values.

    Args:
        padding: Shape: as values, bool; true where a value does not count.
    """
    inside = values if padding is None else values[~padding]
    window = _around(inside)
    if window is None:  # infinities are shown as black and white, and do not count
        window = _around(inside[np.isfinite(inside)])
    return window or Window(128, 256)


def fitting_window_of(values: Array, counts: Array) -> Window:
    """The same, from the distinct values in ascending order and their counts."""
    finite = np.isfinite(values)
    if not finite.all():  # they come last, or first
        window = _around(values, counts)
        return window or _around(values[finite], counts[finite]) or Window(128, 256)
    return _around(values, counts) or Window(128, 256)


def _around(values: Array, counts: Array | None = None) -> Window | None:
    if values.size == 0:
        return None
    with np.errstate(invalid="ignore", over="ignore"):  # between a number and infinity
        low, high = _percentiles(values, counts)
        if not high > low:
            low, high = float(values.min()), float(values.max())
    if not np.isfinite(low) or not np.isfinite(high):
        return None
    width = min(high - low, _WIDEST)
    return Window(low / 2 + high / 2, width if high > low else 1.0, "LINEAR_EXACT")


def _percentiles(values: Array, counts: Array | None) -> tuple[float, float]:
    if counts is None:
        low, high = (float(each) for each in np.percentile(values, PERCENTILES))
        return low, high
    ends = np.cumsum(counts)
    places = [each / 100 * (int(ends[-1]) - 1) for each in PERCENTILES]
    low, high = (_between(values, ends, place) for place in places)
    return low, high


def _between(values: Array, ends: Array, place: float) -> float:
    """The value at a place between two neighbours of the sorted values."""
    before = math.floor(place)
    last = int(ends[-1]) - 1
    at = np.searchsorted(ends, [before, min(before + 1, last)], side="right")
    one, other = (float(values[each]) for each in at)
    return one + (other - one) * (place - before) if other != one else one
