"""Finds comments and other bytes that are no picture in JPEG, JPEG-LS and JPEG 2000 code streams.

Rules: nothing is moved, so that lengths and offset tables stay right: what tells something is
overwritten with zeros. Segments that a decoder needs for colours stay, without their pictures.
Sources: ISO/IEC 10918-1 annex B; ISO/IEC 14495-1 annex C; ISO/IEC 15444-1 annex A.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from lfscp.deidentification.errors import HeldBackError

Span = tuple[int, int]
_JPEG: Final = b"\xff\xd8"
_JPEG_2000: Final = b"\xff\x4f\xff\x51"
# The file formats of JPEG 2000 and JPEG XL have boxes for text.
_FILES: Final = (b"\0\0\0\x0cjP  ", b"\0\0\0\x0cJXL ")
# The transfer syntaxes of JPEG, JPEG-LS and JPEG 2000, by the last part of their UIDs.
_SYNTAXES: Final = frozenset({*range(50, 94), 201, 202, 203})
_OF_SYNTAX: Final = re.compile(r"1\.2\.840\.10008\.1\.2\.4\.([0-9]+)")
_AFTER_SCAN: Final = re.compile(rb"\xff[\xc0-\xcf\xd8-\xfe]")
_COMMENT, _SCAN, _END = 0xFE, 0xDA, 0xD9
_APPLICATION: Final = range(0xE0, 0xF0)
# How many bytes of the segment of an application stay, by how it begins.
_KEPT: Final = {b"JFIF\0": 14, b"Adobe": 12, b"mrfx": 5}
_COMMENT_2000, _TILE, _DATA, _END_2000 = 0x64, 0x90, 0x93, 0xD9
_CUT: Final = "its compressed pixels are cut short or broken"


def begins_frame(fragment: memoryview) -> bool:
    """Whether a fragment is the first of a frame that can be looked at.

    Raises:
        HeldBackError: it is in a file format, which has places for text.
    """
    begin = bytes(fragment[:8])
    if begin.startswith(_FILES):
        raise HeldBackError("its compressed pixels are files of their own, which may hold text")
    return begin.startswith((_JPEG, _JPEG_2000))


def require_code_stream(fragment: memoryview, transfer_syntax_uid: str) -> None:
    """Refuse a first fragment that is not what its transfer syntax says, and cannot be looked at.

    Raises:
        HeldBackError: it begins otherwise.
    """
    match = _OF_SYNTAX.fullmatch(transfer_syntax_uid)
    is_looked_at = match is not None and int(match[1]) in _SYNTAXES
    if is_looked_at and not begins_frame(fragment):
        raise HeldBackError(_CUT)


def telling(frame: memoryview) -> list[Span]:
    """Where the bytes of a frame are that are to be overwritten.

    Raises:
        HeldBackError: the frame is broken.
    """
    walk = _in_jpeg if bytes(frame[:2]) == _JPEG else _in_jpeg_2000
    try:
        found = [(begin, end) for begin, end in walk(frame) if begin < end]
    except IndexError:
        raise HeldBackError(_CUT) from None
    return [(begin, end) for begin, end in found if any(frame[begin:end])]


def _segment(frame: memoryview, at: int) -> tuple[int, int]:
    """Begin and end of what a segment holds.

    Args:
        at: of its length.
    """
    length = frame[at] << 8 | frame[at + 1]
    if length < 2 or at + length > len(frame):
        raise HeldBackError(_CUT)
    return at + 2, at + length


def _marker(frame: memoryview, at: int) -> tuple[int, int]:
    """A marker, and the position behind it; fill bytes are passed over."""
    if frame[at] != 0xFF:
        raise HeldBackError(_CUT)
    while frame[at] == 0xFF:
        at += 1
    return frame[at], at + 1


def _in_jpeg(frame: memoryview) -> Iterator[Span]:
    at = 2
    while at < len(frame):
        marker, at = _marker(frame, at)
        if marker == _END:
            yield at, len(frame)
            return
        if marker == 0x01 or 0xD0 <= marker <= 0xD8:  # those have no length
            continue
        begin, at = _segment(frame, at)
        if marker == _COMMENT:
            yield begin, at
        elif marker in _APPLICATION:
            yield begin + _kept(frame, begin, at), at
        elif marker == _SCAN:
            after = _AFTER_SCAN.search(frame, at)
            if after is None:
                return
            at = after.start()


def _kept(frame: memoryview, begin: int, end: int) -> int:
    first = bytes(frame[begin : min(end, begin + 5)])
    return next((size for name, size in _KEPT.items() if first.startswith(name)), 0)


def _in_jpeg_2000(frame: memoryview) -> Iterator[Span]:
    at, tile = 2, 0
    while at < len(frame):
        start = at
        marker, at = _marker(frame, at)
        if marker == _END_2000:
            yield at, len(frame)
            return
        if marker == _DATA:
            if not tile or tile > len(frame):
                return  # the data of this tile is the rest
            at = tile
            continue
        begin, at = _segment(frame, at)
        if marker == _COMMENT_2000:
            yield begin + 2, at  # behind the kind of comment
        elif marker == _TILE:
            length = int.from_bytes(frame[begin + 2 : begin + 6], "big")
            if 0 < length < at - start:
                raise HeldBackError(_CUT)
            tile = start + length if length else 0
