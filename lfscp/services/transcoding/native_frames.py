"""Frames of pixel data that is not compressed.

Source: PS3.5 section 8.1.1, annex D; PS3.3 section C.7.6.3.1.2.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from lfscp.archive.store.stored_dataset import StoredDataset
from lfscp.dicom.encapsulated import PIXEL_DATA
from lfscp.dicom.image_pixel import (
    CELL_BITS,
    DOUBLE_FLOAT_PIXEL_DATA,
    FLOAT_PIXEL_DATA,
    ImagePixel,
    PixelElement,
)
from lfscp.services.transcoding.decoded import Array, DecodedFrame, DecodingError, shaped

_FLOATS: Final = {FLOAT_PIXEL_DATA: "f4", DOUBLE_FLOAT_PIXEL_DATA: "f8"}


def native_frame(
    dataset: StoredDataset, element: PixelElement, image: ImagePixel, number: int
) -> DecodedFrame:
    """One frame of uncompressed pixels, counted from 0.

    Raises:
        DecodingError: its bytes are not there, or its cells are of an odd size.
    """
    native = _Native(dataset, element, image)
    photometric = image.photometric_interpretation
    if photometric.endswith("_422") and image.samples_per_pixel == 3:
        photometric = photometric.removesuffix("_422")
        if native.is_shorter_than_said():  # else the header is wrong
            shared = native.cells(number, image.samples // 3 * 2)
            return DecodedFrame(_spread(shared, image), photometric)
    cells = native.cells(number, image.samples)
    values = shaped(cells, image, is_planar=image.planar_configuration == 1)
    return DecodedFrame(values, photometric)


class _Native:
    """The value of uncompressed pixels."""

    def __init__(self, dataset: StoredDataset, element: PixelElement, image: ImagePixel) -> None:
        self._value = dataset.content[element.begin : element.end]
        self._image = image
        is_big = dataset.encoding.byteorder == "big"
        self._is_turned = is_big and element.tag == PIXEL_DATA and element.vr == b"OW"
        order = ">" if is_big else "<"
        kind = _FLOATS.get(element.tag)
        if kind is not None:
            self._dtype = np.dtype(order + kind)
        elif image.bits_allocated == 1:
            self._dtype = np.dtype("u1")
        elif image.bits_allocated in CELL_BITS:
            self._dtype = np.dtype(f"<{'i' if image.is_signed else 'u'}{image.bits_allocated // 8}")
        else:
            raise DecodingError(f"pixel cells of {image.bits_allocated} bits are not read")
        self._bits = 1 if kind is None and image.bits_allocated == 1 else 8 * self._dtype.itemsize

    def is_shorter_than_said(self) -> bool:
        """Whether there is less than three samples a pixel in all frames."""
        samples = self._image.samples * self._image.number_of_frames
        return len(self._value) < samples * self._bits // 8

    def cells(self, number: int, samples: int) -> Array:
        """So many cells of a frame, counted from 0."""
        first_bit = number * samples * self._bits
        end = -(-(first_bit + samples * self._bits) // 8)
        if end > len(self._value):
            raise DecodingError(
                f"frame {number + 1} ends at byte {end} of the pixel data,"
                f" {len(self._value)} are there"
            )
        content = self._content(first_bit // 8, end)
        if self._bits > 1:
            return np.frombuffer(content, self._dtype).astype(
                self._dtype.newbyteorder("<"), copy=False
            )
        bits = np.unpackbits(np.frombuffer(content, "u1"), bitorder="little")
        return bits[first_bit % 8 : first_bit % 8 + samples]

    def _content(self, first: int, end: int) -> bytes:
        """Bytes in little endian: 8-bit cells stand two to a word, which may begin before them."""
        if not self._is_turned:
            return bytes(self._value[first:end])
        begin = first & ~1
        words = np.frombuffer(
            self._value[begin : min((end + 1) & ~1, len(self._value) & ~1)], ">u2"
        )
        return words.astype("<u2").tobytes()[first - begin : end - begin]


def _spread(cells: Array, image: ImagePixel) -> Array:
    """Give each pixel its chrominance: Y1 Y2 Cb Cr for two of them (PS3.3 C.7.6.3.1.2)."""
    if image.columns % 2:
        raise DecodingError("two pixels share their chrominance, and Columns is odd")
    pairs = cells.reshape(-1, 4)
    spread = np.empty((len(pairs), 2, 3), cells.dtype)
    spread[:, :, 0] = pairs[:, :2]
    spread[:, :, 1] = pairs[:, 2:3]
    spread[:, :, 2] = pairs[:, 3:4]
    return spread.reshape(image.rows, image.columns, 3)
