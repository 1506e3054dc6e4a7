"""What a compressed frame says of itself: size, samples, precision and sign, before it is decoded.

Rules: pure; only the first marker segments are read. It is looked at first, because a codec
allocates what the codestream says, whatever the dataset does.
Source: ITU-T T.81 (JPEG) annex B, T.87 (JPEG-LS) annex C, T.800 (JPEG 2000) annex A.5.1.
"""

from __future__ import annotations

import struct
from typing import Final, NamedTuple

_SOI: Final = b"\xff\xd8"
_EOI: Final = b"\xff\xd9"  # never part of coded samples
_SIZ: Final = b"\xff\x4f\xff\x51"  # start of codestream, and the size that follows at once
_FILE_FORMAT_BYTES: Final = 4096  # of boxes before the codestream, where there are any
_START_OF_FRAME: Final = frozenset({*range(0xC0, 0xD0), 0xF7}) - {0xC4, 0xC8, 0xCC}
_ALONE: Final = frozenset({0x01, *range(0xD0, 0xD9)})  # markers without a segment


class Codestream(NamedTuple):
    """The size of a compressed frame.

    Args:
        rows: 0 when the codestream says it only at its end.
        precision: bits of each sample.
        is_signed: JPEG and JPEG-LS cannot say it: False.
        is_whole: the end marker of JPEG or JPEG-LS is there. Some decoders make up what is missing.
    """

    rows: int
    columns: int
    samples_per_pixel: int
    precision: int
    is_signed: bool
    is_whole: bool = True


def read_codestream(frame: bytes) -> Codestream | None:
    """Read the size of a compressed frame; None when it is none of JPEG, JPEG-LS, JPEG 2000."""
    try:
        if frame.startswith(_SOI):
            return _read_jpeg(frame)
        at = frame.find(_SIZ, 0, _FILE_FORMAT_BYTES)
        return None if at < 0 else _read_jpeg_2000(frame, at + len(_SIZ))
    except (struct.error, IndexError):
        return None


def _read_jpeg(frame: bytes) -> Codestream | None:
    at = len(_SOI)
    while frame[at] == 0xFF:
        marker = frame[at + 1]
        if marker == 0xFF:  # a fill byte
            at += 1
            continue
        at += 2
        if marker in _ALONE:
            continue
        if marker in _START_OF_FRAME:
            _, precision, rows, columns, samples = struct.unpack_from(">HBHHB", frame, at)
            is_whole = frame.find(_EOI, at) > 0
            return Codestream(rows, columns, samples, precision, False, is_whole)
        at += struct.unpack_from(">H", frame, at)[0]
    return None


def _read_jpeg_2000(frame: bytes, at: int) -> Codestream | None:
    _, _, right, bottom, left, top = struct.unpack_from(">HHLLLL", frame, at)
    (samples,) = struct.unpack_from(">H", frame, at + 36)
    depths = {frame[at + 38 + 3 * number] for number in range(samples)}
    if len(depths) != 1:
        return None
    depth = depths.pop()
    return Codestream(bottom - top, right - left, samples, (depth & 0x7F) + 1, depth >> 7 == 1)
