"""Reads what a dataset says of its pixels (the Image Pixel module), and where they are.

Rules: only the dataset's own elements are read, not those in sequences; values are taken from the
bytes, so that what pydicom would say of a broken one does not matter.
Source: PS3.3 section C.7.6.3; PS3.5 section 8.1.1.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from lfscp.dicom.encoding.elements import (
    UNDEFINED_LENGTH,
    Buffer,
    Encoding,
    element_head,
    skip_undefined,
)
from lfscp.dicom.encoding.encapsulated import MAX_FRAGMENTS, PIXEL_DATA
from lfscp.dicom.errors import DatasetError

SAMPLES_PER_PIXEL: Final = 0x00280002
PHOTOMETRIC_INTERPRETATION: Final = 0x00280004
PLANAR_CONFIGURATION: Final = 0x00280006
NUMBER_OF_FRAMES: Final = 0x00280008
ROWS: Final = 0x00280010
COLUMNS: Final = 0x00280011
BITS_ALLOCATED: Final = 0x00280100
BITS_STORED: Final = 0x00280101
HIGH_BIT: Final = 0x00280102
PIXEL_REPRESENTATION: Final = 0x00280103
EXTENDED_OFFSET_TABLE: Final = 0x7FE00001
EXTENDED_OFFSET_TABLE_LENGTHS: Final = 0x7FE00002
FLOAT_PIXEL_DATA: Final = 0x7FE00008
DOUBLE_FLOAT_PIXEL_DATA: Final = 0x7FE00009

_MAX_KEPT: Final = 256  # bytes, of values that have 16 at most
CELL_BITS: Final = (8, 16, 32, 64)  # Bits Allocated that arrays have
_NUMBERS: Final = {
    SAMPLES_PER_PIXEL: "Samples per Pixel",
    PLANAR_CONFIGURATION: "Planar Configuration",
    ROWS: "Rows",
    COLUMNS: "Columns",
    BITS_ALLOCATED: "Bits Allocated",
    BITS_STORED: "Bits Stored",
    HIGH_BIT: "High Bit",
    PIXEL_REPRESENTATION: "Pixel Representation",
}
PIXELS: Final = frozenset({PIXEL_DATA, FLOAT_PIXEL_DATA, DOUBLE_FLOAT_PIXEL_DATA})
_KEPT: Final = frozenset({*_NUMBERS, PHOTOMETRIC_INTERPRETATION, NUMBER_OF_FRAMES})


@dataclass(frozen=True, slots=True)
class ImagePixel:
    """The attributes that say how pixels are laid out."""

    rows: int
    columns: int
    samples_per_pixel: int
    bits_allocated: int
    bits_stored: int
    high_bit: int
    is_signed: bool
    photometric_interpretation: str
    planar_configuration: int
    number_of_frames: int

    @property
    def samples(self) -> int:
        """Samples of one frame, decoded."""
        return self.rows * self.columns * self.samples_per_pixel

    @property
    def stored_range(self) -> tuple[int, int]:
        """The lowest and the highest value that can be stored."""
        if self.is_signed:
            return -(1 << self.bits_stored - 1), (1 << self.bits_stored - 1) - 1
        return 0, (1 << self.bits_stored) - 1


@dataclass(frozen=True, slots=True)
class PixelElement:
    """Where the pixels are.

    Args:
        tag: of Pixel Data, Float Pixel Data or Double Float Pixel Data.
        vr: as it is written; empty in implicit VR.
        begin: of the value.
        end: of the value; when it is encapsulated, of the dataset.
        extended_offsets: of the Extended Offset Table; empty without one.
    """

    tag: int
    vr: bytes
    begin: int
    end: int
    is_encapsulated: bool = False
    extended_offsets: Sequence[int] = ()


def read_pixel_element(
    dataset: Buffer, encoding: Encoding
) -> tuple[PixelElement | None, dict[int, bytes]]:
    """Find the pixels in a dataset, and the values that describe them, by tag.

    Raises:
        DatasetError: the dataset is broken.
    """
    values: dict[int, bytes] = {}
    extended: Sequence[int] = ()
    at, end = 0, len(dataset)
    found: PixelElement | None = None
    while at + 8 <= end and found is None:
        raw, value, length, inner = element_head(dataset, at, end, encoding)
        tag = encoding.raw_tag(raw)
        vr = bytes(dataset[at + 4 : at + 6]) if encoding.explicit else b""
        if length == UNDEFINED_LENGTH:
            if tag == PIXEL_DATA:
                found = PixelElement(tag, vr, value, end, True, extended)
            else:
                at = skip_undefined(dataset, value, end, inner or encoding)
            continue
        at = value + length
        if at > end:
            raise DatasetError(f"{length} bytes of value, {end - value} are there", tag)
        if tag in _KEPT:
            values[tag] = bytes(dataset[value : min(at, value + _MAX_KEPT)])
        elif tag == EXTENDED_OFFSET_TABLE and length <= 8 * MAX_FRAGMENTS:
            starts = range(value, at - 7, 8)
            offsets = (int.from_bytes(dataset[one : one + 8], encoding.byteorder) for one in starts)
            extended = array("Q", offsets)
        elif tag in PIXELS:
            found = PixelElement(tag, vr, value, at)
    return found, values


def image_pixel(values: dict[int, bytes], encoding: Encoding) -> ImagePixel:
    """The layout of pixels from the bytes of its attributes.

    Raises:
        DatasetError: one that is needed is missing or makes no sense.
    """
    numbers = {
        tag: int.from_bytes(value[:4], encoding.byteorder)
        for tag, value in values.items()
        if tag in _NUMBERS and len(value) in (2, 4)
    }
    for tag in (ROWS, COLUMNS, BITS_ALLOCATED):
        if not numbers.get(tag):
            raise DatasetError(f"{_NUMBERS[tag]} is missing or 0", tag)
    allocated = numbers[BITS_ALLOCATED]
    stored = numbers.get(BITS_STORED) or allocated
    high_bit = numbers.get(HIGH_BIT, stored - 1)
    if not stored - 1 <= high_bit < allocated:
        reason = f"Bits Stored {stored} and High Bit {high_bit} do not fit Bits Allocated"
        raise DatasetError(f"{reason} {allocated}", BITS_STORED)
    photometric = values.get(PHOTOMETRIC_INTERPRETATION, b"").decode("latin_1").strip(" \0")
    return ImagePixel(
        rows=numbers[ROWS],
        columns=numbers[COLUMNS],
        samples_per_pixel=numbers.get(SAMPLES_PER_PIXEL) or 1,
        bits_allocated=allocated,
        bits_stored=stored,
        high_bit=high_bit,
        is_signed=numbers.get(PIXEL_REPRESENTATION, 0) == 1,
        photometric_interpretation=photometric,
        planar_configuration=numbers.get(PLANAR_CONFIGURATION, 0),
        number_of_frames=_frames(values.get(NUMBER_OF_FRAMES, b"")),
    )


def _frames(value: bytes) -> int:
    text = value.decode("latin_1").strip(" \0").partition("\\")[0]
    try:
        number = float(text or 1)
    except ValueError:
        number = 0.5
    if not number.is_integer():
        raise DatasetError("Number of Frames is no whole number", NUMBER_OF_FRAMES)
    return max(1, int(number))
