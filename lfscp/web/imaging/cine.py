"""Reads how long frames are shown when an image is played (PS3.3 sections C.7.6.5, C.7.6.6)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Final

from pydicom.dataset import Dataset

from lfscp.web.imaging.functional_groups import first_number, numbers, value

_FRAME_TIME: Final = 0x00181063
_FRAME_TIME_VECTOR: Final = 0x00181065
_RATES: Final = ("RecommendedDisplayFrameRate", "CineRate")


@dataclass(frozen=True, slots=True)
class FrameTimes:
    """How long frames are shown, in milliseconds.

    Args:
        nominal_ms: average time of a frame; 0 if the object names none.
        each_ms: time of each frame, if they differ.
    """

    nominal_ms: float = 0.0
    each_ms: tuple[float, ...] = ()


def frame_times(header: Dataset, frames: int) -> FrameTimes:
    """The times that the object names.

    Frame Increment Pointer says whether Frame Time or Frame Time Vector counts. If it is absent, or
    what it names makes no sense, the first one there is counts; then the recommended rates.
    """
    vector = _by_vector(header, frames)
    named = _pointers(value(header, "FrameIncrementPointer"))
    if vector and _FRAME_TIME_VECTOR in named and _FRAME_TIME not in named:
        return vector
    frame_time = first_number(header, "FrameTime") or 0.0
    if frame_time > 0:
        return FrameTimes(frame_time)
    if vector:
        return vector
    for keyword in _RATES:
        rate = first_number(header, keyword) or 0.0
        if rate > 0 and math.isfinite(1000 / rate):
            return FrameTimes(1000 / rate)
    return FrameTimes()


def _pointers(found: Any) -> set[int]:
    try:
        return {int(each) for each in (found if hasattr(found, "__iter__") else [found])}
    except (TypeError, ValueError, OverflowError):
        return set()


def _by_vector(header: Dataset, frames: int) -> FrameTimes | None:
    """The increments to the next frame; the last frame stays for as long as they are on average.

    The vector's own first value is 0: there is no frame before the first.
    """
    increments = numbers(header, "FrameTimeVector")[1:frames]
    if frames < 2 or len(increments) < frames - 1 or min(increments) < 0:
        return None
    average = sum(increments) / len(increments)
    if not 0 < average < math.inf:
        return None
    if len(set(increments)) == 1:
        return FrameTimes(average)
    return FrameTimes(average, (*increments, average))
