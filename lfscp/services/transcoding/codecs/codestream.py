"""Reads size, samples, precision and sign of a compressed frame before it is decoded.

Rules: pure; only marker segments are read, and all that a codec would read. A codestream that gives
its size twice is refused. This comes first, because a codec allocates what the codestream says,
whatever the dataset says.
Source: ITU-T T.81 (JPEG) annex B, T.87 (JPEG-LS) annex C.
"""

from __future__ import annotations

import struct
from typing import Final

from lfscp.services.transcoding.codecs.codestream_jpeg2000 import read_jpeg_2000
from lfscp.services.transcoding.decoded import Codestream

_SOI: Final = b"\xff\xd8"
_EOI: Final = b"\xff\xd9"  # never part of coded samples
_START_OF_FRAME: Final = frozenset({*range(0xC0, 0xD0), 0xF7}) - {0xC4, 0xC8, 0xCC}
_START_OF_SCAN: Final = 0xDA
_NUMBER_OF_LINES: Final = b"\xff\xdc\x00\x04"
_HIERARCHICAL: Final = frozenset({0xDE, 0xDF})  # not used in DICOM
_PRESET_PARAMETERS: Final = 0xF8
_OVERSIZE: Final = 4  # preset parameters of JPEG-LS that give another size
_ALONE: Final = frozenset({0x01, *range(0xD0, 0xD9)})  # markers without a segment


def read_codestream(frame: bytes) -> Codestream | None:
    """Read the size of a compressed frame; None if it is neither JPEG, JPEG-LS nor JPEG 2000."""
    try:
        return _read_jpeg(frame) if frame.startswith(_SOI) else read_jpeg_2000(frame)
    except (struct.error, IndexError):
        return None


def _read_jpeg(frame: bytes) -> Codestream | None:
    at = len(_SOI)
    found: Codestream | None = None
    while frame[at] == 0xFF:
        marker = frame[at + 1]
        if marker == 0xFF:  # a fill byte
            at += 1
            continue
        at += 2
        if marker in _ALONE:
            continue
        if marker == _START_OF_SCAN:
            return found
        is_oversize = marker == _PRESET_PARAMETERS and frame[at + 2] == _OVERSIZE
        if marker in _HIERARCHICAL or is_oversize:
            return None
        if marker in _START_OF_FRAME:
            if found is not None:
                return None
            found = _frame_header(frame, at)
        at += struct.unpack_from(">H", frame, at)[0]
    return None


def _frame_header(frame: bytes, at: int) -> Codestream:
    _, precision, rows, columns, samples = struct.unpack_from(">HBHHB", frame, at)
    is_whole = frame.find(_EOI, at) > 0
    return Codestream(rows or _lines(frame, at), columns, samples, precision, False, is_whole)


def _lines(frame: bytes, at: int) -> int:
    """The number of rows that follows the first scan; the largest if there are several."""
    most = 0
    while (at := frame.find(_NUMBER_OF_LINES, at)) >= 0:
        at += len(_NUMBER_OF_LINES)
        most = max(most, int.from_bytes(frame[at : at + 2], "big"))
    return most
