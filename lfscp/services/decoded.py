"""What decoding a frame gives: its values, or the reason why there are none."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lfscp.archive.image_pixel import ImagePixel

Array = NDArray[Any]


class DecodingError(Exception):
    """The object cannot be decoded or converted; the text says why, fit for one log line."""


@dataclass(frozen=True, slots=True)
class DecodedFrame:
    """One frame.

    Args:
        values: whole pixel cells of Bits Allocated, signed as Pixel Representation says; 0 and 1
            as uint8 when Bits Allocated is 1. Shape: (rows, columns), or (rows, columns, samples)
            whatever Planar Configuration says; C order.
        photometric_interpretation: of these values: lossy JPEG in YBR has become RGB, what a
            codec transformed is RGB, and sub-sampled chrominance has been spread.
    """

    values: Array
    photometric_interpretation: str


def shaped(values: Array, image: ImagePixel, *, is_planar: bool) -> Array:
    """One frame's samples by pixel.

    Returns:
        Shape: (rows, columns), or (rows, columns, samples), C order.
    """
    rows, columns, samples = image.rows, image.columns, image.samples_per_pixel
    if samples == 1:
        return values.reshape(rows, columns)
    if is_planar:
        planes = values.reshape(samples, rows, columns)
        return np.ascontiguousarray(planes.transpose(1, 2, 0))
    return values.reshape(rows, columns, samples)
