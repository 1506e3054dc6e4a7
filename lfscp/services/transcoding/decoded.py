"""Defines a frame before and after decoding, and the errors of decoding."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lfscp.dicom.encoding.image_pixel import ImagePixel

Array = NDArray[Any]


class DecodingError(Exception):
    """The object cannot be decoded or converted; the text says why."""


class MoreMemoryNeededError(DecodingError):
    """Decoding takes more memory than was allowed for; nothing was decoded.

    Args:
        more_bytes: beyond what the header of the dataset implies.
    """

    def __init__(self, more_bytes: int) -> None:
        super().__init__(f"it needs {more_bytes >> 20} MB more than its header says")
        self.more_bytes = more_bytes


class Codestream(NamedTuple):
    """The size of a compressed frame.

    Args:
        rows: 0 if the codestream does not say.
        precision: bits of each sample.
        is_signed: always False for JPEG and JPEG-LS, which cannot say.
        is_whole: the end marker of JPEG or JPEG-LS is there. Some decoders invent what is missing.
        overhead_bytes: memory that a codec takes for the parts of the codestream.
    """

    rows: int
    columns: int
    samples_per_pixel: int
    precision: int
    is_signed: bool
    is_whole: bool = True
    overhead_bytes: int = 0


@dataclass(frozen=True, slots=True)
class DecodedFrame:
    """One frame.

    Args:
        values: whole pixel cells of Bits Allocated, signed as Pixel Representation says; 0 and 1
            as uint8 when Bits Allocated is 1. Shape: (rows, columns), or (rows, columns, samples)
            whatever Planar Configuration says; C order.
        photometric_interpretation: of these values. Lossy JPEG in YBR and colours that a codec
            transformed are RGB; sub-sampled chrominance has been spread.
    """

    values: Array
    photometric_interpretation: str


class FramePieces(NamedTuple):
    """One frame whose bytes are read once, piece by piece.

    Args:
        pieces: of whole cells, as `DecodedFrame.values` has them.
        photometric_interpretation: as `DecodedFrame` has it.
    """

    pieces: Iterator[memoryview]
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
