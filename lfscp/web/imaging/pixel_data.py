"""One frame's pixels, as they are stored.

Uncompressed frames are read by their place in the file; compressed ones go to pydicom's codecs, or
to Pillow when they must become smaller to fit. Nothing is transformed: colours, bits and signs are
for others.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO, Final

from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.pixels.decoders.base import get_decoder
from pydicom.uid import UID

from lfscp.archive.store.stored_dataset import StoredDataset, read_stored_dataset
from lfscp.dicom.errors import DatasetError
from lfscp.dicom.header import DEFLATED
from lfscp.dicom.image_pixel import ImagePixel
from lfscp.services.transcoding.codestream import Codestream, read_codestream
from lfscp.services.transcoding.compressed_frames import decode_compressed
from lfscp.services.transcoding.decoded import DecodedFrame
from lfscp.services.transcoding.frames import CELLS_IN_FRAGMENTS, DecodingError, Frames
from lfscp.services.transcoding.free_memory import give_back_memory
from lfscp.web.imaging.colour import PALETTE
from lfscp.web.imaging.errors import NoPictureError, PixelDataError, is_lack_of_memory, words_of
from lfscp.web.imaging.native_cells import SUBSAMPLED, NativeCells
from lfscp.web.imaging.object_header import PixelDataPlace, opened, place_of, syntax_of
from lfscp.web.imaging.pixel_format import PixelFormat, pixel_format
from lfscp.web.imaging.room import UNLIMITED, Room, shown_bytes
from lfscp.web.imaging.scaled_frames import bytes_needed, scaled_frame, scales_of

if TYPE_CHECKING:
    from lfscp.archive.store.object_store import StoredFile

Array = NDArray[Any]
UNCOMPRESSED: Final = DEFLATED | {
    "1.2.840.10008.1.2",
    "1.2.840.10008.1.2.1",
    "1.2.840.10008.1.2.2",
}
_BIG_ENDIAN: Final = "1.2.840.10008.1.2.2"
_ITEM: Final = b"\xfe\xff\x00\xe0"
_MOST_REDUCED: Final = 65_536
_LEAST: Final = 1 << 20
_LARGE: Final = 1 << 22  # samples
# What codecs take, as measured: bytes for each sample of up to 8 bits, and of more; the result is
# among them.
_BY_SYNTAX: Final = {
    "1.2.840.10008.1.2.5": (2, 3),  # RLE
    **dict.fromkeys((f"1.2.840.10008.1.2.4.{each}" for each in (50, 51, 57, 70)), (5, 6)),  # JPEG
    **dict.fromkeys((f"1.2.840.10008.1.2.4.{each}" for each in (80, 81)), (2, 4)),  # JPEG-LS
}
_JPEG_2000: Final = (6, 7)  # and whatever else there is


@dataclass(frozen=True, slots=True)
class Cells:
    """One frame as it is stored.

    Args:
        values: Shape: (rows, columns) or (rows, columns, samples); unsigned cells with all their
            bits, or floating point.
        photometric: how to understand them, which a codec may have changed.
        high_bit: of the stored bits.
        reduction: by which number rows and columns were divided, rounded up.
    """

    values: Array
    photometric: str
    high_bit: int
    reduction: int = 1


def read_cells(
    path: StoredFile, header: Dataset, number: int, edge: int = 0, room: Room = UNLIMITED
) -> Cells:
    """Read one frame; the one place where pixel data is decoded for pictures.

    Args:
        header: from `read_header`.
        number: of the frame, counted from 0.
        edge: longest edge that is of use, in pixels; 0 is any. A frame that does not fit is
            reduced to it, or further.
        room: what it must fit in.
    Raises:
        NoPictureError: there is no pixel data, or no decoder.
        NotEnoughMemoryError: it does not fit, and cannot be reduced.
        PixelDataError: the pixel data is broken.
        OSError: the file cannot be read.
    """
    place, layout, syntax = place_of(header), pixel_format(header), syntax_of(header)
    if syntax in UNCOMPRESSED:
        with opened(path) as (_, file):
            return _uncompressed(file, place, layout, number, syntax == _BIG_ENDIAN, edge, room)
    _require_decoder(UID(syntax))
    with opened(path) as (_, file):
        file.seek(place.offset)
        if file.read(4) != _ITEM:
            raise PixelDataError("it is not compressed, but its transfer syntax says so")
    try:
        return _compressed(path, layout, number, room)
    except DecodingError as error:
        if is_lack_of_memory(error):
            raise MemoryError from error
        raise PixelDataError(words_of(error)) from error
    except DatasetError as error:
        raise PixelDataError(error.reason) from error


def _is_colour(layout: PixelFormat) -> bool:
    return layout.samples == 3 or layout.photometric == PALETTE


def _uncompressed(
    file: BinaryIO,
    place: PixelDataPlace,
    layout: PixelFormat,
    number: int,
    big_endian: bool,
    edge: int,
    room: Room,
) -> Cells:
    if place.length < 0:
        raise PixelDataError("it is compressed, but its transfer syntax does not say so")
    cells = NativeCells(file, place, layout, big_endian)

    def need(reduction: int) -> int:
        pixels = -(-layout.rows // reduction) * -(-layout.columns // reduction)
        return pixels * cells.bytes_per_pixel + shown_bytes(pixels, _is_colour(layout))

    reduction = room.first_that_fits(_reductions(layout, edge), need)
    room.require(need(reduction))
    values = cells.frame(number, reduction)
    return Cells(values, cells.photometric, layout.high_bit, reduction)


def _reductions(layout: PixelFormat, edge: int) -> Iterator[int]:
    """None at first; else to what is wanted, and then further."""
    yield 1
    reduction = max(2, max(layout.rows, layout.columns) // edge if edge else 2)
    while reduction <= _MOST_REDUCED:
        yield reduction
        reduction += max(1, reduction // 8)


def _compressed(path: StoredFile, layout: PixelFormat, number: int, room: Room) -> Cells:
    dataset = read_stored_dataset(path)
    frames = Frames(dataset)
    spans = frames.spans_of(number, alone=True)
    size = sum(end - begin for begin, end in spans)
    image, syntax = frames.image, dataset.transfer_syntax_uid
    whole = _bytes_to_show(syntax, layout, image, size)
    if whole <= room.most:
        room.require(whole)
        frame = _decode(dataset, frames, number)
        values = frame.values.view(f"u{frame.values.dtype.itemsize}")
        return Cells(values, frame.photometric_interpretation, layout.high_bit)
    room.require(2 * size)
    codestream = b"".join(dataset.content[begin:end] for begin, end in spans)
    dataset.forget()
    found = read_codestream(codestream)
    if found is None or (found.rows, found.columns) != (image.rows, image.columns):
        room.require(whole)
        raise PixelDataError("the codestream has another size than the header says")
    return _scaled(codestream, found, dataset, image, layout, room, whole)


def _decode(dataset: StoredDataset, frames: Frames, number: int) -> DecodedFrame:
    """Decode a whole frame, with one copy of its codestream in memory."""
    if not frames.has_codec:
        return frames.decode(number, alone=True)
    spans = frames.spans_of(number, alone=True)
    codestream = b"".join(dataset.content[begin:end] for begin, end in spans)
    dataset.forget()
    decoder = get_decoder(dataset.transfer_syntax_uid)
    decoded = decode_compressed(decoder, codestream, frames.image)
    if frames.image.samples > _LARGE:  # some codecs take a little for every row, and much in all
        give_back_memory()
    return decoded


def _scaled(
    codestream: bytes,
    found: Codestream,
    dataset: StoredDataset,
    image: ImagePixel,
    layout: PixelFormat,
    room: Room,
    whole: int,
) -> Cells:
    if not found.is_whole:
        raise PixelDataError("the codestream is cut off")
    syntax = dataset.transfer_syntax_uid
    scales = scales_of(syntax, found, image)

    def need(scale: int) -> int:
        pixels = -(-image.rows // scale) * -(-image.columns // scale)
        decoding = bytes_needed(syntax, found, image, scale, codestream)
        kept = pixels * image.samples_per_pixel * image.bits_allocated // 8
        shown = kept + shown_bytes(pixels, _is_colour(layout))
        return max(decoding + 2 * len(codestream), shown)

    scale = room.first_that_fits(scales, need)
    room.require((need(scale) if scales else whole) - len(codestream))  # which is there already
    values = scaled_frame(codestream, syntax, found, image, scale)
    photometric = image.photometric_interpretation
    if photometric in SUBSAMPLED:
        photometric = photometric.removesuffix("_422")
    elif photometric in ("YBR_ICT", "YBR_RCT"):
        photometric = "RGB"
    return Cells(values, photometric, layout.high_bit, scale)


def _bytes_to_show(syntax: str, layout: PixelFormat, image: ImagePixel, size: int) -> int:
    """The working set of decoding a whole frame, or of showing it when that is more."""
    narrow, wide = _BY_SYNTAX.get(syntax, _JPEG_2000)
    per_sample = narrow if image.bits_allocated <= 8 else wide * max(1, image.bits_allocated // 16)
    kept = image.samples * image.bits_allocated // 8
    shown = shown_bytes(image.rows * image.columns, _is_colour(layout))
    return max(_LEAST + size + image.samples * per_sample, kept + shown)


def _require_decoder(syntax: UID) -> None:
    if syntax in CELLS_IN_FRAGMENTS:
        return
    try:
        decoder = get_decoder(syntax)
    except NotImplementedError:
        raise NoPictureError(f"there is no decoder for {syntax.name}") from None
    if not decoder.is_available:
        raise NoPictureError(f"no decoder for {syntax.name}: pip install 'lfscp[codecs]'")
