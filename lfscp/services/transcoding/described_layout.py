"""Lays out a decoded frame as the header of its object describes uncompressed pixels.

Rules: who reads a frame beside the metadata of its object knows only what they say. So its colours
stay as they are stored, its planes are those of Planar Configuration, and two pixels of
YBR_FULL_422 share their chrominance. YBR_RCT and YBR_ICT are steps inside a JPEG 2000 codestream,
which no uncompressed pixels have: these frames are RGB.
Source: PS3.3 sections C.7.6.3.1.2 and C.7.6.3.1.3, PS3.5 section 8.2.4, PS3.18 section 8.7.3.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from lfscp.dicom.encoding.image_pixel import ImagePixel
from lfscp.services.transcoding.decoded import Array, DecodingError
from lfscp.services.transcoding.native_frames import SUBSAMPLED

_ROWS_OF_SAMPLES: Final = 200_000


def shares_chrominance(image: ImagePixel) -> bool:
    """Whether the header says that two pixels have one chrominance."""
    return image.samples_per_pixel == 3 and image.photometric_interpretation in SUBSAMPLED


def can_lay_out(image: ImagePixel) -> bool:
    """Whether there is such a layout: pixels that share their chrominance come in pairs."""
    return not shares_chrominance(image) or image.columns % 2 == 0


def samples_of(image: ImagePixel) -> int:
    """Samples of one frame in this layout."""
    return image.rows * image.columns * 2 if shares_chrominance(image) else image.samples


def is_moved(image: ImagePixel) -> bool:
    """Whether `laid_out` makes a copy."""
    return shares_chrominance(image) or (
        image.samples_per_pixel > 1 and image.planar_configuration == 1
    )


def laid_out(values: Array, image: ImagePixel) -> Array:
    """One decoded frame in this layout.

    Args:
        values: shape (rows, columns) or (rows, columns, samples), not yet converted to RGB.
    Raises:
        DecodingError: there is no such layout.
    """
    if not can_lay_out(image):
        raise DecodingError("two pixels share their chrominance, and Columns is odd")
    if shares_chrominance(image):
        return _pairs(values)
    if values.ndim == 3 and image.planar_configuration == 1:
        return np.ascontiguousarray(values.transpose(2, 0, 1))
    return values


def _pairs(values: Array) -> Array:
    """The luminance of each two pixels, and the mean of their chrominance.

    Some rows at a time, because the mean takes more memory than the values.
    """
    rows, columns, _ = values.shape
    pairs = np.empty((rows, columns // 2, 4), values.dtype)
    step = max(1, _ROWS_OF_SAMPLES // (columns * 3))
    for first in range(0, rows, step):
        some = slice(first, first + step)
        both = values[some].reshape(-1, columns // 2, 2, 3)
        pairs[some, :, :2] = both[..., 0]
        wide = both[..., 1:].astype(np.int64)
        pairs[some, :, 2:] = (wide.sum(axis=2) + 1) // 2
    return pairs
