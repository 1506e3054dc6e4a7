"""Joins pictures in GIF to one that moves, frame by frame.

Rules: nothing is decoded: each picture keeps its colours as a table of its own. Memory holds one.
A picture that is no GIF, or of another size, is an error.
Source: GIF89a; Netscape's application extension for the repetition.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

from lfscp.web.imaging.errors import NoPictureError

DEFAULT_MS: Final = 100.0  # of a frame, if the object names none
_SCREEN: Final = struct.Struct("<6sHHBBB")
_IMAGE: Final = struct.Struct("<BHHHHB")
_TABLE: Final = 0x80  # flag: there is a table of colours
_TABLE_SIZE: Final = 0x07
_EXTENSION, _SEPARATOR, _TRAILER = 0x21, 0x2C, 0x3B
_REPEATS: Final = b"\x21\xff\x0bNETSCAPE2.0\x03\x01\x00\x00\x00"
_LEAST, _MOST = 2, 0xFFFF  # hundredths of a second: browsers slow down what is faster


class _Picture(NamedTuple):
    """What is in a GIF with one picture."""

    size: tuple[int, int]
    flags: int
    colours: bytes
    content: bytes


def animation(pictures: Iterable[bytes], times_ms: Iterable[float]) -> Iterator[bytes]:
    """One GIF of several.

    Args:
        times_ms: how long each is shown.
    Raises:
        NoPictureError: one of them is no GIF as the first is.
    """
    size: tuple[int, int] | None = None
    for content, shown_ms in zip(pictures, times_ms, strict=False):
        try:
            found = _read(content)
        except (struct.error, IndexError):
            raise NoPictureError("a frame is no picture") from None
        if size is None:
            size = found.size
            yield _SCREEN.pack(b"GIF89a", *size, 0x70, 0, 0) + _REPEATS
        if found.size != size:
            raise NoPictureError("its frames have different sizes")
        yield b"".join((_shown(shown_ms), _head(found), found.colours, found.content))
    if size is not None:
        yield bytes([_TRAILER])


def _shown(shown_ms: float) -> bytes:
    hundredths = min(max(round(shown_ms / 10), _LEAST), _MOST)
    return struct.pack("<BBBBHBB", _EXTENSION, 0xF9, 4, 0x04, hundredths, 0, 0)


def _head(found: _Picture) -> bytes:
    return _IMAGE.pack(_SEPARATOR, 0, 0, *found.size, found.flags)


def _read(content: bytes) -> _Picture:
    """The first picture of a GIF with its colours."""
    signature, width, height, flags, _, _ = _SCREEN.unpack_from(content)
    if not signature.startswith(b"GIF8"):
        raise IndexError
    at = _SCREEN.size
    colours, at = _colours(content, at, flags)
    while content[at] == _EXTENSION:
        at = _blocks_end(content, at + 2)
    kind, _, _, *size, own = _IMAGE.unpack_from(content, at)
    if kind != _SEPARATOR or size != [width, height]:
        raise IndexError
    at += _IMAGE.size
    if own & _TABLE:
        flags = own
        colours, at = _colours(content, at, own)
    if not colours:
        raise IndexError
    end = _blocks_end(content, at + 1)
    flags = _TABLE | flags & _TABLE_SIZE | own & 0x40  # and whether its rows are interlaced
    return _Picture((width, height), flags, colours, content[at:end])


def _colours(content: bytes, at: int, flags: int) -> tuple[bytes, int]:
    end = at + (3 << (flags & _TABLE_SIZE) + 1 if flags & _TABLE else 0)
    if end > len(content):
        raise IndexError
    return content[at:end], end


def _blocks_end(content: bytes, at: int) -> int:
    """The position behind blocks that each begin with their length, the last being empty."""
    while length := content[at]:
        at += length + 1
    return at + 1
