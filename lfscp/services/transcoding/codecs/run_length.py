"""Decodes RLE frames into their cells.

Rules: a segment holds one byte of one sample of every pixel. Bytes too many are ignored, bytes too
few are an error. imagecodecs decodes a segment five times as fast, but takes none with bytes too
many; without it, and for those, it is decoded here.
Source: PS3.5 annex G.
"""

from __future__ import annotations

import struct
from typing import Final

import numpy as np

from lfscp.dicom.encoding.image_pixel import CELL_BITS, ImagePixel
from lfscp.services.transcoding.decoded import Array, DecodedFrame, DecodingError

_HEADER: Final = struct.Struct("<16L")  # count of segments, where each begins
_MAX_SEGMENTS: Final = 15
_NOTHING: Final = 128  # of control bytes: those below say how many bytes follow, those above repeat
_MAX_FOR_ONE: Final = 64  # bytes of pixels for one: two bytes stand for 128
_AT_ONCE: Final = 4096  # bytes that are decoded before the result is stored


def run_length_frame(frame: bytes, image: ImagePixel) -> DecodedFrame:
    """Decode one frame.

    Args:
        frame: the bytes of its fragments.
        image: the frame as the header describes it.
    Raises:
        DecodingError: the frame is broken, or differs from the header.
    """
    if image.bits_allocated not in CELL_BITS:
        raise DecodingError(f"Bits Allocated {image.bits_allocated} is not supported")
    size, samples = image.bits_allocated // 8, image.samples_per_pixel
    if image.samples * size > _MAX_FOR_ONE * len(frame):
        raise DecodingError(f"{len(frame)} bytes are too few for the pixels that the header says")
    segments = _segments(frame, samples * size)
    pixels = np.empty((image.rows * image.columns, samples, size), np.uint8)
    for number, (begin, end) in enumerate(segments):
        sample, byte = divmod(number, size)  # the highest byte of a cell comes first
        _decode(frame[begin:end], pixels[:, sample, size - 1 - byte])
    cells = pixels.view(f"<{'i' if image.is_signed else 'u'}{size}")
    shape = (image.rows, image.columns, samples)[: 3 if samples > 1 else 2]
    return DecodedFrame(cells.reshape(shape), image.photometric_interpretation.removesuffix("_422"))


def _segments(frame: bytes, expected: int) -> list[tuple[int, int]]:
    """Where each segment begins and ends."""
    if len(frame) < _HEADER.size:
        raise DecodingError("it has no RLE header")
    count, *begins = _HEADER.unpack_from(frame)
    if count != expected or count > _MAX_SEGMENTS:
        raise DecodingError(f"it has {count} RLE segments, {expected} are expected")
    return list(zip(begins[:count], [*begins[1:count], len(frame)], strict=True))


def _decode(segment: bytes, out: Array) -> None:
    """Decode one segment."""
    if not _is_decoded_by_library(segment, out):
        _decode_pieces(segment, out)


def _is_decoded_by_library(segment: bytes, out: Array) -> bool:
    try:
        from imagecodecs import packbits_decode
    except ImportError:
        return False
    whole = out if out.flags.c_contiguous else np.empty(len(out), np.uint8)
    try:
        count = len(packbits_decode(segment, out=whole.data))
    except RuntimeError:  # what it says of bytes that are wrong or too many
        return False
    if whole is not out:
        out[:] = whole
    return count == len(out)


def _decode_pieces(segment: bytes, out: Array) -> None:
    at = filled = 0
    while at < len(segment) and filled < len(out):
        piece, at = _piece(segment, at)
        count = min(len(piece), len(out) - filled)
        out[filled : filled + count] = np.frombuffer(piece, np.uint8, count)
        filled += count
    if filled < len(out):
        raise DecodingError(f"an RLE segment has {filled} bytes, {len(out)} are expected")


def _piece(segment: bytes, at: int) -> tuple[bytearray, int]:
    """Decode some bytes; gives the result and where the next ones begin."""
    piece = bytearray()
    extend = piece.extend
    stop = min(at + _AT_ONCE, len(segment))
    while at < stop:
        control = segment[at]
        at += 1
        if control < _NOTHING:
            following = at + control + 1
            extend(segment[at:following])
            at = following
        elif control > _NOTHING:
            extend(segment[at : at + 1] * (257 - control))
            at += 1
    return piece, at
