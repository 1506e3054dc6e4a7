"""Decodes frames with codecs, and brings them into the pixel cells that the header describes.

Rules: the result is compared with codestream and header. 8-bit samples under Bits Allocated 16 are
widened, a sign that differs from Pixel Representation is corrected, samples are put at High Bit;
anything else that does not fit is an error. RLE gives whole cells, which stay as they are. Codecs
are pydicom's plugins (`decoders`); RLE is decoded here.
Source: PS3.5 sections 8.1.1, 8.2.1 to 8.2.4.
"""

from __future__ import annotations

import struct
from io import BytesIO
from typing import Any, Final

import numpy as np
from pydicom.pixels.decoders.base import Decoder
from pydicom.pixels.processing import convert_color_space

from lfscp.dicom.encoding.image_pixel import CELL_BITS, ImagePixel
from lfscp.services.transcoding.codecs.codestream import read_codestream
from lfscp.services.transcoding.codecs.decoders import preferred_plugin
from lfscp.services.transcoding.codecs.run_length import run_length_frame
from lfscp.services.transcoding.decoded import (
    Array,
    Codestream,
    DecodedFrame,
    DecodingError,
    MoreMemoryNeededError,
    shaped,
)
from lfscp.services.transcoding.described_layout import laid_out

_LOSSY_JPEG: Final = frozenset({"1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.51"})
_RLE_LOSSLESS: Final = "1.2.840.10008.1.2.5"
_ROWS_OF_SAMPLES: Final = 200_000
_BASIC_OFFSET_TABLE: Final = struct.pack("<HHL", 0xFFFE, 0xE000, 0)
_DELIMITER: Final = struct.pack("<HHL", 0xFFFE, 0xE0DD, 0)
_YBR_FULL: Final = ("YBR_FULL", "YBR_FULL_422")


def decode_compressed(
    decoder: Decoder,
    frame: bytes,
    image: ImagePixel,
    room_bytes: float = float("inf"),
    *,
    as_described: bool = False,
) -> DecodedFrame:
    """Decode one frame.

    Args:
        frame: the bytes of its fragments.
        image: the frame as the header describes it.
        room_bytes: memory for what a codestream needs beyond what the header implies.
        as_described: lay it out as the header describes uncompressed pixels.
    Raises:
        DecodingError: the frame is broken, or differs from the header.
        MoreMemoryNeededError: the frame needs more than this room; nothing was decoded.
    """
    if decoder.UID == _RLE_LOSSLESS:
        return _finished(run_length_frame(frame, image), image, as_described=as_described)
    stream = read_codestream(frame)
    if stream is None:
        raise DecodingError("it does not begin as a codestream does")
    if not stream.is_whole:
        raise DecodingError("the codestream is cut off")
    _require_same_size(stream, image)
    container = _container_bits(stream.precision)
    more = stream.overhead_bytes + image.samples * max(0, container - image.bits_allocated) // 8
    if more > room_bytes:
        raise MoreMemoryNeededError(more)
    decoded, properties = _run(decoder, frame, image, container)
    expected = image.samples * container // 8
    if len(decoded) != expected:
        raise DecodingError(f"{len(decoded)} bytes of pixels, {expected} are expected")
    values = np.frombuffer(decoded, f"<{'i' if stream.is_signed else 'u'}{container // 8}")
    values = _cells(values, stream, image)
    planar = properties.get("planar_configuration") == 1
    values = shaped(values, image, is_planar=planar)
    photometric = str(properties["photometric_interpretation"])
    if as_described:
        return _finished(DecodedFrame(values, photometric), image, as_described=True)
    return _coloured(values, photometric, decoder.UID)


def _finished(frame: DecodedFrame, image: ImagePixel, *, as_described: bool) -> DecodedFrame:
    if not as_described:
        return frame
    return DecodedFrame(laid_out(frame.values, image), frame.photometric_interpretation)


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
    for bits in CELL_BITS:
        if precision <= bits:
            return bits
    raise DecodingError(f"samples of {precision} bits are not supported")


def _run(
    decoder: Decoder, frame: bytes, image: ImagePixel, container: int
) -> tuple[bytes | bytearray | memoryview, dict[str, Any]]:
    """Let the codec decode one frame; gives the bytes and their layout."""
    try:
        return decoder.as_buffer(
            _OneFragment(frame),
            index=0,
            validate=False,
            decoding_plugin=preferred_plugin(decoder),
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


class _OneFragment(BytesIO):
    """Pixel data with one frame in one fragment, as a file that copies nothing (PS3.5 A.4)."""

    def __init__(self, frame: bytes) -> None:
        super().__init__()
        self._frame = frame
        self._head = _BASIC_OFFSET_TABLE + struct.pack("<HHL", 0xFFFE, 0xE000, len(frame))
        self._at = 0

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = 0, /) -> int:
        end = len(self._head) + len(self._frame) + len(_DELIMITER)
        self._at = max(0, offset + (0, self._at, end)[whence])
        return self._at

    def read(self, size: int | None = -1, /) -> bytes:
        begin = len(self._head)
        end = begin + len(self._frame)
        if self._at == begin and size == len(self._frame):
            self._at = end
            return self._frame
        part, at = (self._head, self._at) if self._at < begin else (_DELIMITER, self._at - end)
        piece = part[max(0, at) :][: size if size is not None and size >= 0 else None]
        self._at += len(piece)
        return piece


def _words_of(error: Exception) -> str:
    words = " ".join(str(error).split())
    return words.rpartition("available plugins: ")[2] or "the codec failed"


def _cells(values: Array, stream: Codestream, image: ImagePixel) -> Array:
    """Bring decoded samples into the header's cells; JPEG and JPEG-LS carry no sign (PS3.5 8.2)."""
    container = values.dtype.itemsize
    precision = stream.precision
    if stream.is_signed and not image.is_signed:
        values = _writable(values.view(f"<u{container}"))
        values &= np.array((1 << precision) - 1, f"<u{container}")
    elif image.is_signed and not stream.is_signed and precision >= image.bits_stored:
        unused = 8 * container - precision
        values = values.view(f"<i{container}")
        if unused:
            values = _writable(values)
            values <<= unused
            values >>= unused
    values = _in_cells(values, precision, image)
    above = image.high_bit + 1 - image.bits_stored
    if above and precision <= image.bits_stored:
        values = _writable(values)
        values <<= above
    return values


def _writable(values: Array) -> Array:
    """The same values to change in place, copied only if they are read-only."""
    return values if values.flags.writeable else values.copy()


def _in_cells(values: Array, precision: int, image: ImagePixel) -> Array:
    """The same values in cells of Bits Allocated."""
    allocated = image.bits_allocated
    if allocated == 1:
        lowest, highest, dtype = 0, 1, np.dtype("u1")
    elif allocated in CELL_BITS:
        dtype = np.dtype(f"<{'i' if image.is_signed else 'u'}{allocated // 8}")
        lowest, highest = np.iinfo(dtype).min, np.iinfo(dtype).max
    else:
        raise DecodingError(f"Bits Allocated {allocated} is not supported")
    if values.dtype == dtype and allocated > 1:
        return values
    if int(values.min(initial=0)) < lowest or int(values.max(initial=0)) > highest:
        raise DecodingError(f"samples of {precision} bits do not fit Bits Allocated {allocated}")
    return values.astype(dtype)


def _rgb(values: Array) -> Array:
    """Turn YBR_FULL into RGB, some rows at a time because the conversion takes much memory."""
    converted = np.empty_like(values)
    rows = max(1, _ROWS_OF_SAMPLES // max(1, values[0].size))
    for first in range(0, len(values), rows):
        some = slice(first, first + rows)
        converted[some] = convert_color_space(values[some], "YBR_FULL", "RGB")
    return converted


def _coloured(values: Array, photometric: str, transfer_syntax_uid: str) -> DecodedFrame:
    """Turn lossy YBR into RGB, which every receiver displays; lossless YBR would be rounded."""
    if values.ndim == 2:
        return DecodedFrame(values, photometric)
    is_lossy = transfer_syntax_uid in _LOSSY_JPEG
    if is_lossy and photometric in _YBR_FULL and values.dtype == np.uint8:
        return DecodedFrame(_rgb(values), "RGB")
    # Codecs give each pixel its chrominance.
    return DecodedFrame(values, photometric.removesuffix("_422"))
