"""Turns photometric interpretations and palettes into RGB (PS3.3 section C.7.6.3.1.2).

ICC profiles are not applied.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from pydicom.dataset import Dataset

from lfscp.services.transcoding.decoded import Array
from lfscp.web.imaging.errors import LookupTableError, NoPictureError
from lfscp.web.imaging.lookup_tables import LookupTable, read_table

PALETTE: Final = "PALETTE COLOR"
_FULL: Final = ("YBR_FULL", "YBR_FULL_422")
# Retired: luminance from 16 to 235. The ending goes once each pixel has its chrominance.
_PARTIAL: Final = ("YBR_PARTIAL_422", "YBR_PARTIAL_420", "YBR_PARTIAL")
_OTHERS: Final = ("HSV", "ARGB", "CMYK")  # retired
_CHANNELS: Final = ("Red", "Green", "Blue")
_BYTE: Final = 8
_WORD: Final = 32


def require_shown(photometric: str, samples: int) -> None:
    """Refuse colours that are not shown.

    Raises:
        NoPictureError: a retired interpretation, or not 1 or 3 samples.
    """
    if photometric in _OTHERS:
        raise NoPictureError(f"pictures in {photometric} are not shown")
    if samples not in (1, 3):
        raise NoPictureError(f"pictures of {samples} samples per pixel are not shown")


def to_rgb(values: Array, photometric: str, bits: int) -> Array:
    """Turn three samples a pixel into RGB.

    Args:
        values: Shape: (rows, columns, 3), unsigned.
        bits: stored.
    Returns:
        Shape: (rows, columns, 3), uint8.
    """
    if photometric in _FULL or photometric in _PARTIAL:
        values = _from_ybr(values, bits, partial=photometric in _PARTIAL)
    return to_bytes(values, bits)


def to_bytes(values: Array, bits: int) -> Array:
    """Scale stored values to bytes.

    Returns:
        Same shape, uint8.
    """
    if bits == _BYTE:
        return values.astype(np.uint8, copy=False)
    if bits == 2 * _BYTE:
        return (values // np.uint16(257)).astype(np.uint8)  # (2^16 - 1) / 255
    if bits > _WORD:
        values, bits = values >> values.dtype.type(bits - _WORD), _WORD
    wide = values.astype(np.uint64 if bits > _WORD - _BYTE else np.uint32)
    return (wide * 255 // ((1 << bits) - 1)).astype(np.uint8)


def _from_ybr(values: Array, bits: int, *, partial: bool) -> Array:
    highest, half = np.float32((1 << bits) - 1), np.float32(1 << bits - 1)
    luminance, blue, red = np.ascontiguousarray(values.transpose(2, 0, 1)).astype(np.float32)
    blue -= half
    red -= half
    if partial:
        luminance -= np.float32(16 << max(bits - _BYTE, 0))
        luminance *= np.float32(255 / 219)
        blue *= np.float32(255 / 224)
        red *= np.float32(255 / 224)
    luminance += np.float32(0.5)  # cut off below
    out = np.empty(values.shape, values.dtype)
    green = luminance - np.float32(0.344136) * blue - np.float32(0.714136) * red
    red *= np.float32(1.402)
    red += luminance
    blue *= np.float32(1.772)
    blue += luminance
    for channel, result in enumerate((red, green, blue)):
        out[..., channel] = np.clip(result, 0, highest, out=result)
    return out


def palettes_of(header: Dataset, *, signed: bool) -> list[LookupTable]:
    """The palettes for red, green and blue.

    Raises:
        LookupTableError: one is absent or makes no sense.
    Source: PS3.3 sections C.7.6.3.1.5, C.7.6.3.1.6, C.7.9.
    """
    tables = []
    for channel in _CHANNELS:
        try:
            table = read_table(
                header,
                header,
                signed=signed,
                descriptor=f"{channel}PaletteColorLookupTableDescriptor",
                data=f"{channel}PaletteColorLookupTableData",
                segmented=f"Segmented{channel}PaletteColorLookupTableData",
            )
        except LookupTableError as error:
            raise LookupTableError(f"{channel.lower()}: {error}") from None
        tables.append(table)
    return tables


def by_palettes(values: Array, tables: list[LookupTable]) -> Array:
    """Look up indices in palettes.

    Returns:
        Shape: (rows, columns, 3), uint8.
    """
    out = np.empty((*values.shape, 3), np.uint8)
    for channel, table in enumerate(tables):
        out[..., channel] = table.to_bytes(values)
    return out
