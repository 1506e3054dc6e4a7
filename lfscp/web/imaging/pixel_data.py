"""One frame's pixels, as they are stored.

Uncompressed frames are read here, by their place in the file; compressed ones go to pydicom's
codecs. Nothing is transformed: colours, bits and signs are for others.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO, Final

from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.pixels.decoders.base import get_decoder
from pydicom.uid import UID

from lfscp.archive.header import DEFLATED
from lfscp.services.frames import CELLS_IN_FRAGMENTS, DecodingError, decoded_frame
from lfscp.web.imaging.byte_order import WORD_BYTES, in_little_endian
from lfscp.web.imaging.errors import NoPicture, PixelDataError, words_of
from lfscp.web.imaging.object_header import PixelDataPlace, opened, place_of, syntax_of
from lfscp.web.imaging.pixel_format import PixelFormat, from_cells, pixel_format

if TYPE_CHECKING:
    from lfscp.archive.object_store import StoredFile

Array = NDArray[Any]
_FLOAT_BITS: Final = {"FloatPixelData": 32, "DoubleFloatPixelData": 64}
UNCOMPRESSED: Final = DEFLATED | {
    "1.2.840.10008.1.2",
    "1.2.840.10008.1.2.1",
    "1.2.840.10008.1.2.2",
}
SUBSAMPLED: Final = frozenset({"YBR_FULL_422", "YBR_PARTIAL_422"})
_BIG_ENDIAN: Final = "1.2.840.10008.1.2.2"
_ITEM: Final = b"\xfe\xff\x00\xe0"


@dataclass(frozen=True, slots=True)
class Cells:
    """One frame as it is stored.

    Args:
        values: Shape: (rows, columns) or (rows, columns, samples); unsigned cells with all their
            bits, or floating point.
        photometric: how to understand them, which a codec may have changed.
        high_bit: of the stored bits.
    """

    values: Array
    photometric: str
    high_bit: int


def read_cells(path: StoredFile, header: Dataset, number: int) -> Cells:
    """Read one frame; the one place where pixel data is decoded for pictures.

    Args:
        header: from `read_header`.
        number: of the frame, counted from 0.
    Raises:
        NoPicture: there is no pixel data, or no decoder.
        PixelDataError: the pixel data is broken.
        OSError: the file cannot be read.
    """
    place, layout, syntax = place_of(header), pixel_format(header), syntax_of(header)
    with opened(path) as (_, file):
        if syntax in UNCOMPRESSED:
            return _uncompressed(file, place, layout, number, big_endian=syntax == _BIG_ENDIAN)
        return _compressed(file, path, place, layout, header, number)


def _uncompressed(
    file: BinaryIO, place: PixelDataPlace, layout: PixelFormat, number: int, *, big_endian: bool
) -> Cells:
    if place.length < 0:
        raise PixelDataError("it is compressed, which its transfer syntax does not say")
    bits = _cell_bits(place, layout)
    count, photometric = _stored_count(place, layout, bits)
    first = number * count * bits
    unit = 8 * (WORD_BYTES.get(place.vr, 1) if big_endian else 1)
    start, stop = first // unit * (unit // 8), -(-(first + count * bits) // unit) * (unit // 8)
    file.seek(place.offset + start)
    content = file.read(max(0, min(stop, place.length) - start))
    content = in_little_endian(content, place.vr, big_endian=big_endian)
    skipped = first - 8 * start
    values = from_cells(content[skipped // 8 :], count, bits, skipped % 8)
    if len(values) < count:
        raise PixelDataError(f"it ends before the end of frame {number + 1}")
    return _shaped(values, place, layout, photometric)


def _cell_bits(place: PixelDataPlace, layout: PixelFormat) -> int:
    bits = _FLOAT_BITS.get(place.keyword, layout.allocated)
    if bits != 1 and (bits % 8 or not 8 <= bits <= 64):
        raise PixelDataError(f"{bits} bits allocated are not supported")
    return bits


def _stored_count(place: PixelDataPlace, layout: PixelFormat, bits: int) -> tuple[int, str]:
    """How many cells a frame has, and how to understand them.

    Two pixels of YBR_FULL_422 share their chrominance, unless the length says that they do not.
    """
    count = layout.samples_in_frame
    if layout.photometric not in SUBSAMPLED or layout.samples != 3:
        return count, layout.photometric
    if place.length * 8 >= count * bits * layout.frames:
        return count, layout.photometric.removesuffix("_422")
    return layout.rows * layout.columns * 2, layout.photometric


def _shaped(values: Array, place: PixelDataPlace, layout: PixelFormat, photometric: str) -> Cells:
    if place.keyword in _FLOAT_BITS:
        values = values.view(f"<f{values.dtype.itemsize}")
    if photometric in SUBSAMPLED and layout.samples == 3:
        shaped: Array = _spread(values).reshape(layout.rows, layout.columns, 3)
    elif layout.samples == 1:
        shaped = values.reshape(layout.rows, layout.columns)
    elif layout.is_planar:
        shaped = values.reshape(-1, layout.rows, layout.columns).transpose(1, 2, 0)
    else:
        shaped = values.reshape(layout.rows, layout.columns, -1)
    return Cells(shaped, photometric, layout.high_bit)


def _spread(values: Array) -> Array:
    """Give each of two pixels the chrominance they share (PS3.3 section C.7.6.3.1.2)."""
    pairs = values.reshape(-1, 4)  # luminance of both, blue, red
    return pairs[:, [0, 2, 3, 1, 2, 3]]


def _compressed(
    file: BinaryIO,
    path: StoredFile,
    place: PixelDataPlace,
    layout: PixelFormat,
    header: Dataset,
    number: int,
) -> Cells:
    syntax = UID(syntax_of(header))
    _require_decoder(syntax)
    file.seek(place.offset)
    if file.read(4) != _ITEM:
        raise PixelDataError("it is not compressed, which its transfer syntax says")
    try:
        frame = decoded_frame(path, number)
    except DecodingError as error:
        raise PixelDataError(words_of(error)) from error
    values = frame.values.view(f"u{frame.values.dtype.itemsize}")
    return Cells(values, frame.photometric_interpretation, layout.high_bit)


def _require_decoder(syntax: UID) -> None:
    if syntax in CELLS_IN_FRAGMENTS:
        return
    try:
        decoder = get_decoder(syntax)
    except NotImplementedError:
        raise NoPicture(f"there is no decoder for {syntax.name}") from None
    if not decoder.is_available:
        raise NoPicture(f"no decoder for {syntax.name}: pip install 'lfscp[codecs]'")
