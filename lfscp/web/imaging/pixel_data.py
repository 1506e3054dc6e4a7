"""Reads the pixels of one frame as they are stored.

Uncompressed frames are read from their place in the file. Compressed ones go to pydicom's codecs,
or to Pillow if they must be reduced to fit in memory. Colours, bits and signs stay as they are.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO, Final, cast

from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRBigEndian

from lfscp.archive.store.stored_dataset import StoredDataset, read_stored_dataset
from lfscp.dicom.encoding.image_pixel import ImagePixel, PixelElement
from lfscp.dicom.reading.header import DEFLATED
from lfscp.processes.memory import give_back_memory
from lfscp.services.transcoding.codecs.codestream import read_codestream
from lfscp.services.transcoding.decoded import Array, Codestream, DecodingError
from lfscp.services.transcoding.frames import CELLS_IN_FRAGMENTS, NATIVE, Frames, decoder_of
from lfscp.services.transcoding.native_frames import SUBSAMPLED, NativeFrames
from lfscp.web.imaging.colour import PALETTE
from lfscp.web.imaging.errors import NoPictureError
from lfscp.web.imaging.object_header import opened, place_of, syntax_of
from lfscp.web.imaging.pixel_format import pixel_format
from lfscp.web.imaging.room import UNLIMITED, Room, shown_bytes
from lfscp.web.imaging.scaled_frames import bytes_needed, scaled_frame, scales_of

if TYPE_CHECKING:
    from lfscp.archive.store.object_store import StoredFile

_UNCOMPRESSED: Final = DEFLATED | NATIVE
_ITEM: Final = b"\xfe\xff\x00\xe0"
_MAX_REDUCED: Final = 65_536
_LEAST: Final = 1 << 20
_LARGE: Final = 1 << 22  # samples
# Memory of the codecs, as measured: bytes for each sample of up to 8 bits, and of more; with the
# result.
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
        photometric: their interpretation, which a codec may have changed.
        reduction: the divisor of rows and columns; they are rounded up.
    """

    values: Array
    photometric: str
    reduction: int = 1


def read_cells(
    path: StoredFile, header: Dataset, number: int, edge: int = 0, room: Room = UNLIMITED
) -> Cells:
    """Read one frame; the only place where pixel data is decoded for pictures.

    Args:
        header: from `read_header`.
        number: of the frame, counted from 0.
        edge: longest edge that is of use, in pixels; 0 is any. A frame that does not fit is
            reduced to it, or further.
        room: what it must fit in.
    Raises:
        NoPictureError: there is no pixel data, or no decoder.
        NotEnoughMemoryError: it does not fit, and cannot be reduced.
        DecodingError, DatasetError: the pixel data is broken.
        OSError: the file cannot be read.
    """
    place, layout, syntax = place_of(header), pixel_format(header), syntax_of(header)
    is_native = syntax in _UNCOMPRESSED
    if not is_native and syntax not in CELLS_IN_FRAGMENTS:
        _require_decoder(syntax)
    with _file(path, syntax) as file:
        if is_native:
            big_endian = syntax == ExplicitVRBigEndian
            return _uncompressed(file, place, layout, number, big_endian, edge, room)
        file.seek(place.begin)
        if file.read(4) != _ITEM:
            raise DecodingError("it is not compressed, but its transfer syntax says so")
    return _compressed(path, layout, number, room)


@contextmanager
def _file(path: StoredFile, syntax: str) -> Iterator[BinaryIO]:
    """The file of an object, or its inflated dataset: what `place_of` counts in.

    Missing VRs do not matter here: the header says where the pixels are.
    """
    if syntax in DEFLATED:
        with opened(path) as (_, inflated):
            yield inflated
    else:
        with path.open("rb") as file:
            yield cast(BinaryIO, file)


def _is_colour(layout: ImagePixel) -> bool:
    return layout.samples_per_pixel == 3 or layout.photometric_interpretation == PALETTE


def _uncompressed(
    file: BinaryIO,
    place: PixelElement,
    layout: ImagePixel,
    number: int,
    big_endian: bool,
    edge: int,
    room: Room,
) -> Cells:
    if place.is_encapsulated:
        raise DecodingError("it is compressed, but its transfer syntax does not say so")
    cells = NativeFrames(file, place, layout, big_endian)

    def need(reduction: int) -> int:
        pixels = -(-layout.rows // reduction) * -(-layout.columns // reduction)
        return pixels * cells.bytes_per_pixel + shown_bytes(pixels, _is_colour(layout))

    reduction = room.first_that_fits(_reductions(layout, edge), need)
    room.require(need(reduction))
    values = cells.frame(number, reduction)
    return Cells(values, cells.photometric, reduction)


def _reductions(layout: ImagePixel, edge: int) -> Iterator[int]:
    """The reductions to try: none, then to the wanted edge, then further."""
    yield 1
    reduction = max(2, max(layout.rows, layout.columns) // edge if edge else 2)
    while reduction <= _MAX_REDUCED:
        yield reduction
        reduction += max(1, reduction // 8)


def _compressed(path: StoredFile, layout: ImagePixel, number: int, room: Room) -> Cells:
    dataset = read_stored_dataset(path)
    frames = Frames(dataset)
    spans = frames.spans_of(number, alone=True)
    size = sum(end - begin for begin, end in spans)
    image, syntax = frames.image, dataset.transfer_syntax_uid
    whole = _bytes_to_show(syntax, layout, image, size)
    if whole <= room.most:
        room.require(whole)
        frame = frames.decode(number, alone=True)
        if image.samples > _LARGE:  # some codecs keep a little for every row, which adds up
            give_back_memory()
        values = frame.values.view(f"u{frame.values.dtype.itemsize}")
        return Cells(values, frame.photometric_interpretation)
    room.require(2 * size)
    codestream = b"".join(dataset.content[begin:end] for begin, end in spans)
    dataset.forget()
    found = read_codestream(codestream)
    if found is None or (found.rows, found.columns) != (image.rows, image.columns):
        room.require(whole)
        raise DecodingError("the codestream has another size than the header says")
    return _scaled(codestream, found, dataset, image, layout, room, whole)


def _scaled(
    codestream: bytes,
    found: Codestream,
    dataset: StoredDataset,
    image: ImagePixel,
    layout: ImagePixel,
    room: Room,
    whole: int,
) -> Cells:
    if not found.is_whole:
        raise DecodingError("the codestream is cut off")
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
    return Cells(values, photometric, scale)


def _bytes_to_show(syntax: str, layout: ImagePixel, image: ImagePixel, size: int) -> int:
    """The working set of decoding a whole frame, or of showing it when that is more."""
    narrow, wide = _BY_SYNTAX.get(syntax, _JPEG_2000)
    per_sample = narrow if image.bits_allocated <= 8 else wide * max(1, image.bits_allocated // 16)
    kept = image.samples * image.bits_allocated // 8
    shown = shown_bytes(image.rows * image.columns, _is_colour(layout))
    return max(_LEAST + size + image.samples * per_sample, kept + shown)


def _require_decoder(syntax: str) -> None:
    try:
        decoder_of(syntax)
    except DecodingError as error:
        raise NoPictureError(str(error)) from None
