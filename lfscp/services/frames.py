"""The frames of a stored object, decoded: as many bytes as the header says, or an error.

Rules: one reading for who is sent an object and for who looks at it. What a codec gives is compared
with the codestream and the header: 8-bit samples under Bits Allocated 16 are widened, a sign that
differs from Pixel Representation is set right, the samples stand at High Bit; what does not fit is
an error. Bits of a cell outside the sample stay as they were. Codecs are pydicom's plugins (the
extra `codecs`; RLE needs numpy only).
Source: PS3.5 sections 8.1.1, 8.2 and annex A.4.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from pydicom.encaps import encapsulate
from pydicom.pixels.decoders.base import Decoder, get_decoder
from pydicom.pixels.processing import convert_color_space
from pydicom.uid import UID

from lfscp.archive.elements import Encoding
from lfscp.archive.encapsulated import PIXEL_DATA, Span, frames_of
from lfscp.archive.errors import CannotUnderstand
from lfscp.archive.image_pixel import (
    DOUBLE_FLOAT_PIXEL_DATA,
    FLOAT_PIXEL_DATA,
    ImagePixel,
    PixelElement,
    image_pixel,
    read_pixel_element,
)
from lfscp.archive.object_store import StoredFile
from lfscp.archive.stored_dataset import StoredDataset, read_stored_dataset
from lfscp.services.codestream import Codestream, read_codestream
from lfscp.services.contexts import UNCOMPRESSED

Array = NDArray[Any]

_LOSSY_JPEG: Final = frozenset({"1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.51"})
# JPIP: the pixel data is not in the object but at a URL (PS3.5 section 8.4.1).
PIXELS_ELSEWHERE: Final = frozenset(
    f"1.2.840.10008.1.2.4.{number}" for number in (94, 95, 204, 205)
)
_NATIVE: Final = frozenset(UNCOMPRESSED)
_ENCAPSULATED_UNCOMPRESSED: Final = "1.2.840.10008.1.2.1.98"
_RLE_LOSSLESS: Final = "1.2.840.10008.1.2.5"
_STRICT_JPEG_LS: Final = "pyjpegls"  # the other makes up samples where some are missing
_FLOATS: Final = {FLOAT_PIXEL_DATA: "f4", DOUBLE_FLOAT_PIXEL_DATA: "f8"}
_CELLS: Final = (8, 16, 32, 64)  # Bits Allocated that arrays have
_YBR_FULL: Final = ("YBR_FULL", "YBR_FULL_422")


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


def decoded_frame(path: StoredFile, number: int) -> DecodedFrame:
    """Decode one frame of a stored object, compressed or not.

    Args:
        path: a DICOM Part 10 file.
        number: counted from 0.
    Raises:
        DecodingError: there is no such frame, no decoder, or it is broken.
        OSError: the file cannot be read.
    """
    try:
        return Frames(read_stored_dataset(path)).decode(number)
    except CannotUnderstand as error:
        raise DecodingError(error.reason) from None


class Frames:
    """The frames of one dataset.

    Args:
        dataset: as `read_stored_dataset` gives it.
    Raises:
        DecodingError: it has no pixels, there is no decoder for them, or what describes them is
            missing.
        CannotUnderstand: its bytes are broken.
    """

    def __init__(self, dataset: StoredDataset) -> None:
        syntax = dataset.transfer_syntax_uid
        if syntax in PIXELS_ELSEWHERE:
            raise DecodingError(f"{UID(syntax).name} only refers to its pixel data")
        element, values = read_pixel_element(dataset.content, dataset.encoding)
        if element is None:
            raise DecodingError("it holds no pixel data")
        self.element: PixelElement = element
        self.image: ImagePixel = image_pixel(values, dataset.encoding)
        self._dataset = dataset
        self._decoder: Decoder | None = None
        self._is_plain = syntax == _ENCAPSULATED_UNCOMPRESSED
        self._spans: list[tuple[Span, ...]] = []
        if element.fragments is None and element.tag == PIXEL_DATA and not is_native(syntax):
            raise DecodingError(f"{UID(syntax).name} without fragments of pixel data")
        if element.fragments is not None:
            self._decoder = None if self._is_plain else _decoder_of(syntax)
            self._spans = frames_of(
                dataset.content,
                element.fragments,
                self.image.number_of_frames,
                element.extended_offsets,
            )

    def decode(self, number: int) -> DecodedFrame:
        """Decode one frame, counted from 0.

        Raises:
            DecodingError: there is none, or it is broken.
        """
        frames = self.image.number_of_frames
        if not 0 <= number < frames:
            raise DecodingError(f"there is no frame {number + 1}, the object has {frames}")
        if not self._spans:
            return native_frame(self._dataset, self.element, self.image, number)
        spans = self._spans[number]
        content = self._dataset.content
        frame = b"".join(content[begin:end] for begin, end in spans)
        if self._decoder is None:
            element = PixelElement(PIXEL_DATA, b"OB", 0, len(frame))
            one = self._dataset._replace(content=memoryview(frame))
            return native_frame(one, element, replace(self.image, number_of_frames=1), 0)
        try:
            return _decode(self._decoder, frame, self.image)
        except DecodingError as error:
            name = UID(self._dataset.transfer_syntax_uid).name
            raise DecodingError(f"{name} cannot be decoded: frame {number + 1}: {error}") from None


def is_native(transfer_syntax_uid: str) -> bool:
    """Whether pixel data in this transfer syntax is not compressed frame by frame."""
    return transfer_syntax_uid in _NATIVE


def _decoder_of(transfer_syntax_uid: str) -> Decoder:
    name = UID(transfer_syntax_uid).name
    try:
        decoder = get_decoder(transfer_syntax_uid)
    except NotImplementedError:
        raise DecodingError(f"there is no decoder for {name}") from None
    if is_native(transfer_syntax_uid):
        raise DecodingError(f"compressed pixel data in {name}, which has none")
    if not decoder.is_available:
        raise DecodingError(f"no decoder for {name} is installed: pip install 'lfscp[codecs]'")
    return decoder


# Compressed frames


def _decode(decoder: Decoder, frame: bytes, image: ImagePixel) -> DecodedFrame:
    is_run_length = decoder.UID == _RLE_LOSSLESS
    stream = _run_length(image) if is_run_length else read_codestream(frame)
    if stream is None:
        raise DecodingError("it does not begin as a codestream does")
    if not stream.is_whole:
        raise DecodingError("the codestream is cut off")
    _require_same_size(stream, image)
    container = _container_bits(stream.precision)
    decoded, properties = _run(decoder, frame, image, container)
    expected = image.samples * container // 8
    if len(decoded) != expected:
        raise DecodingError(f"{len(decoded)} bytes of pixels, {expected} are expected")
    values = np.frombuffer(decoded, f"<{'i' if stream.is_signed else 'u'}{container // 8}")
    if not is_run_length:
        values = _cells(values, stream, image)
    elif image.is_signed:
        values = values.view(f"<i{container // 8}")
    planar = properties.get("planar_configuration") == 1
    values = _shaped(values, image, is_planar=planar)
    return _coloured(values, str(properties["photometric_interpretation"]), decoder.UID)


def _run_length(image: ImagePixel) -> Codestream:
    """RLE says nothing of itself but the count of its segments, which the decoder compares."""
    if image.bits_allocated not in _CELLS:
        raise DecodingError(f"Bits Allocated {image.bits_allocated}")
    samples = image.samples_per_pixel
    return Codestream(image.rows, image.columns, samples, image.bits_allocated, is_signed=False)


def _require_same_size(stream: Codestream, image: ImagePixel) -> None:
    said = (image.rows, image.columns, image.samples_per_pixel)
    found = (stream.rows or image.rows, stream.columns, stream.samples_per_pixel)
    if found != said:
        rows, columns, samples = found
        raise DecodingError(
            f"the codestream has {rows} rows, {columns} columns, {samples} samples,"
            f" the header says {said[0]}, {said[1]}, {said[2]}"
        )


def _container_bits(precision: int) -> int:
    for bits in _CELLS:
        if precision <= bits:
            return bits
    raise DecodingError(f"samples of {precision} bits")


def _run(
    decoder: Decoder, frame: bytes, image: ImagePixel, container: int
) -> tuple[bytes | bytearray | memoryview, dict[str, Any]]:
    """Let the codec decode one frame: its bytes, and how it says they are laid out."""
    plugin = _STRICT_JPEG_LS if _STRICT_JPEG_LS in decoder.available_plugins else ""
    try:
        return decoder.as_buffer(
            encapsulate([frame], has_bot=False),
            index=0,
            validate=False,
            decoding_plugin=plugin,
            rows=image.rows,
            columns=image.columns,
            number_of_frames=1,
            samples_per_pixel=image.samples_per_pixel,
            bits_allocated=container,
            bits_stored=min(image.bits_stored, container),
            pixel_representation=int(image.is_signed),
            photometric_interpretation=image.photometric_interpretation,
            planar_configuration=0,
        )
    except (RuntimeError, ValueError, NotImplementedError) as error:
        # From the codec: about pixels, it quotes no other value.
        raise DecodingError(_words_of(error)) from error
    except Exception as error:  # codecs raise what they like on broken pixels
        raise DecodingError("the codec failed") from error


def _words_of(error: Exception) -> str:
    words = " ".join(str(error).split())
    return words.rpartition("available plugins: ")[2] or "the codec failed"


def _cells(values: Array, stream: Codestream, image: ImagePixel) -> Array:
    """Bring decoded samples into the pixel cells that the header describes.

    Source: PS3.5 sections 8.1.1 and 8.2.1 to 8.2.4: JPEG and JPEG-LS carry signed samples as
    unsigned ones.
    """
    container = values.dtype.itemsize
    precision = stream.precision
    if stream.is_signed and not image.is_signed:
        values = values.view(f"<u{container}") & np.array((1 << precision) - 1, f"<u{container}")
    elif image.is_signed and not stream.is_signed and precision >= image.bits_stored:
        unused = 8 * container - precision
        values = values.view(f"<i{container}")
        values = (values << unused) >> unused if unused else values
    values = _in_cells(values, precision, image)
    above = image.high_bit + 1 - image.bits_stored
    return values << above if above and precision == image.bits_stored else values


def _in_cells(values: Array, precision: int, image: ImagePixel) -> Array:
    """The same values as numbers of Bits Allocated."""
    allocated = image.bits_allocated
    if allocated == 1:
        lowest, highest, dtype = 0, 1, np.dtype("u1")
    elif allocated in _CELLS:
        dtype = np.dtype(f"<{'i' if image.is_signed else 'u'}{allocated // 8}")
        lowest, highest = np.iinfo(dtype).min, np.iinfo(dtype).max
    else:
        raise DecodingError(f"Bits Allocated {allocated}")
    if values.dtype == dtype and allocated > 1:
        return values
    if int(values.min(initial=0)) < lowest or int(values.max(initial=0)) > highest:
        raise DecodingError(f"samples of {precision} bits do not fit Bits Allocated {allocated}")
    return values.astype(dtype)


def _shaped(values: Array, image: ImagePixel, *, is_planar: bool) -> Array:
    rows, columns, samples = image.rows, image.columns, image.samples_per_pixel
    if samples == 1:
        return values.reshape(rows, columns)
    if is_planar:
        planes = values.reshape(samples, rows, columns)
        return np.ascontiguousarray(planes.transpose(1, 2, 0))
    return values.reshape(rows, columns, samples)


def _coloured(values: Array, photometric: str, transfer_syntax_uid: str) -> DecodedFrame:
    """Turn lossy YBR into RGB, which every receiver displays.

    Other colour spaces are kept: turning lossless YBR into RGB would round.
    """
    if values.ndim == 3 and photometric in _YBR_FULL:
        if transfer_syntax_uid in _LOSSY_JPEG and values.dtype == np.uint8:
            return DecodedFrame(convert_color_space(values, "YBR_FULL", "RGB"), "RGB")
        photometric = "YBR_FULL"
    return DecodedFrame(values, photometric)


# Frames that are not compressed


def native_frame(
    dataset: StoredDataset, element: PixelElement, image: ImagePixel, number: int
) -> DecodedFrame:
    """One frame of uncompressed pixels, counted from 0.

    Raises:
        DecodingError: its bytes are not there, or its cells are of an odd size.
    """
    value = dataset.content[element.begin : element.end]
    photometric = image.photometric_interpretation
    samples = image.samples
    is_spread = samples * image.number_of_frames * image.bits_allocated // 8 <= len(value)
    if photometric == "YBR_FULL_422" and image.samples_per_pixel == 3:
        if not is_spread:
            cells = _native_cells(value, element, image, dataset.encoding, number, samples // 3 * 2)
            return DecodedFrame(_spread(cells, image), "YBR_FULL")
        photometric = "YBR_FULL"  # by its length; the header is wrong
    cells = _native_cells(value, element, image, dataset.encoding, number, samples)
    shaped = _shaped(cells, image, is_planar=image.planar_configuration == 1)
    return DecodedFrame(shaped, photometric)


def _native_cells(
    value: memoryview,
    element: PixelElement,
    image: ImagePixel,
    encoding: Encoding,
    number: int,
    samples: int,
) -> Array:
    allocated = image.bits_allocated
    if allocated != 1 and allocated not in _CELLS:
        raise DecodingError(f"pixel cells of {allocated} bits are not read")
    first_bit = number * samples * allocated
    end_bit = first_bit + samples * allocated
    if -(-end_bit // 8) > len(value):
        needed = -(-end_bit // 8)
        raise DecodingError(
            f"frame {number + 1} ends at byte {needed} of the pixel data, {len(value)} are there"
        )
    first, end = first_bit // 8, -(-end_bit // 8)
    is_words = element.tag == PIXEL_DATA and element.vr == b"OW" and encoding.byteorder == "big"
    if is_words:  # 8-bit cells stand two to a word, which may begin before the frame
        begin = first & ~1
        piece = bytes(value[begin : (end + 1) & ~1])
        content = np.frombuffer(piece[: len(piece) & ~1], ">u2").astype("<u2").tobytes()
        content = content[first - begin : first - begin + end - first]
    else:
        content = bytes(value[first:end])
    if allocated == 1:
        bits = np.unpackbits(np.frombuffer(content, "u1"), bitorder="little")
        return bits[first_bit % 8 : first_bit % 8 + samples]
    if element.tag in _FLOATS:
        order = ">" if encoding.byteorder == "big" else "<"
        kind = _FLOATS[element.tag]
        return np.frombuffer(content, order + kind).astype("<" + kind)
    return np.frombuffer(content, f"<{'i' if image.is_signed else 'u'}{allocated // 8}")


def _spread(cells: Array, image: ImagePixel) -> Array:
    """Give each pixel its chrominance: Y1 Y2 Cb Cr for two of them (PS3.3 C.7.6.3.1.2)."""
    pairs = cells.reshape(-1, 4)
    spread = np.empty((len(pairs), 2, 3), cells.dtype)
    spread[:, :, 0] = pairs[:, :2]
    spread[:, :, 1] = pairs[:, 2:3]
    spread[:, :, 2] = pairs[:, 3:4]
    return spread.reshape(image.rows, image.columns, 3)
