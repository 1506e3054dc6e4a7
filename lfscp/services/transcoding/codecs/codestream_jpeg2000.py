"""Reads the header of a JPEG 2000 codestream, and estimates the memory that its parts take.

Rules: pure; only the headers of the codestream and its tile-parts are read. In the file format the
boxes are walked, as codecs do: a codestream inside another box does not count. A codec keeps a
record of each tile, precinct and code-block, so small ones cost a multiple of their samples.
Source: ITU-T T.800 annexes A.4 to A.6, B.6, B.7 and I.4.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Final, NamedTuple

from lfscp.services.transcoding.decoded import Codestream

_SIZ: Final = b"\xff\x4f\xff\x51"  # start of codestream, and the size that follows at once
_SIGNATURE_BOX: Final = b"\0\0\0\x0cjP  \r\n\x87\n"
_CODESTREAM_BOX: Final = b"jp2c"
_COD: Final = 0xFF52
_COC: Final = 0xFF53
_SOT: Final = 0xFF90
_SOD: Final = 0xFF93
_EOC: Final = 0xFFD9
_MAX_TILE_PARTS: Final = 100_000
_MANY_COMPONENTS: Final = 257  # from here on two bytes name one

# Bytes of memory for each, as OpenJPEG 2.5 takes them, and some more.
_OF_TILE: Final = 8000
_OF_COMPONENT: Final = 2000  # of a tile
_OF_PRECINCT: Final = 500
_OF_CODE_BLOCK: Final = 600


class _Size(NamedTuple):
    columns: int
    rows: int
    components: int
    tiles: int


def read_jpeg_2000(frame: bytes) -> Codestream | None:
    """Read the size of a frame; None if it is not JPEG 2000.

    Raises:
        struct.error, IndexError: it is cut off.
    """
    at = _begin(frame)
    if at < 0:
        return None
    at += len(_SIZ)
    _, _, right, bottom, left, top = struct.unpack_from(">HHLLLL", frame, at)
    width, height, tiles_left, tiles_top, components = struct.unpack_from(">LLLLH", frame, at + 20)
    depths = {frame[at + 38 + 3 * number] for number in range(components)}
    if len(depths) != 1 or not width or not height:
        return None
    across, down = -(-(right - tiles_left) // width), -(-(bottom - tiles_top) // height)
    size = _Size(right - left, bottom - top, components, across * down)
    at += struct.unpack_from(">H", frame, at)[0]
    overhead = _overhead(frame, at, size)
    depth = depths.pop()
    precision, is_signed = (depth & 0x7F) + 1, depth >> 7 == 1
    return Codestream(
        size.rows, size.columns, components, precision, is_signed, overhead_bytes=overhead
    )


def _begin(frame: bytes) -> int:
    """Where the codestream begins; -1 without one."""
    if frame.startswith(_SIZ):
        return 0
    if not frame.startswith(_SIGNATURE_BOX):
        return -1
    at = 0
    while True:
        length, name = struct.unpack_from(">L4s", frame, at)
        head = 8
        if length == 1:
            (length,) = struct.unpack_from(">Q", frame, at + head)
            head = 16
        if name == _CODESTREAM_BOX:
            return at + head if frame.startswith(_SIZ, at + head) else -1
        if length < head:  # 0 is to the end of the file
            return -1
        at += length


def _overhead(frame: bytes, at: int, size: _Size) -> int:
    styles = [_parts(style, size) for style in _coding_styles(frame, at, size.components)]
    tiles = size.tiles * (_OF_TILE + _OF_COMPONENT * size.components)
    return tiles + size.components * max(styles, default=0)


def _coding_styles(frame: bytes, at: int, components: int) -> Iterator[bytes]:
    """Coding styles of all tiles and components, from the number of decomposition levels on."""
    tile_part_end = 0
    tile_parts = 0
    while at + 4 <= len(frame):
        marker, length = struct.unpack_from(">HH", frame, at)
        if marker == _EOC:
            return
        if marker == _SOD:
            if not tile_part_end:
                return
            at = tile_part_end
            continue
        segment = frame[at + 4 : at + 2 + length]
        if marker == _SOT:
            (size,) = struct.unpack_from(">L", segment, 2)
            tile_part_end = at + size if size >= 12 else 0  # 0: to the end
            tile_parts += 1
            if tile_parts > _MAX_TILE_PARTS:
                raise IndexError("too many tile-parts")
        elif marker == _COD:
            yield _with_precincts(segment[0], segment[5:])
        elif marker == _COC:
            name = 2 if components >= _MANY_COMPONENTS else 1
            yield _with_precincts(segment[name], segment[name + 1 :])
        at += 2 + length


def _with_precincts(style: int, rest: bytes) -> bytes:
    """Levels, exponents of the code-blocks' size, style, transform; and each level's precinct."""
    precincts = rest[5:] if style & 1 else b""
    return rest[:5] + precincts.ljust(rest[0] + 1, b"\xff")


def _parts(style: bytes, size: _Size) -> int:
    """Memory for the precincts and code-blocks of one component."""
    levels = style[0]
    memory = 0
    for level, precinct in enumerate(style[5 : 6 + levels]):
        bands, halved = (3, 1) if level else (1, 0)
        shift = levels - level
        columns, rows = -(-size.columns >> shift) + 1, -(-size.rows >> shift) + 1
        across, down = precinct & 15, precinct >> 4
        width = max(0, min((style[1] & 15) + 2, across - halved))
        height = max(0, min((style[2] & 15) + 2, down - halved))
        # At least one of each in every tile.
        precincts = max(size.tiles, _count(columns, across) * _count(rows, down))
        columns, rows = -(-columns >> halved), -(-rows >> halved)
        blocks = max(size.tiles, _count(columns, width) * _count(rows, height))
        memory += bands * (precincts * _OF_PRECINCT + blocks * _OF_CODE_BLOCK)
    return memory


def _count(samples: int, exponent: int) -> int:
    return -(-samples >> exponent)
