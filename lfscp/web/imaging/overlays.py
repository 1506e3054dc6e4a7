"""Draws overlays of one bit a pixel on a frame: graphics and regions (PS3.3 section C.9).

Rules: both types are drawn, graphics (G) and regions of interest (R). The bits come from Overlay
Data, or in old objects from unused bits of the pixels. An overlay that makes no sense is left out.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
from pydicom.dataset import Dataset

from lfscp.services.transcoding.decoded import Array
from lfscp.services.transcoding.native_frames import in_little_endian
from lfscp.web.imaging.errors import Omission
from lfscp.web.imaging.object_header import is_big_endian
from lfscp.web.imaging.pixel_format import pixel_format

_STRIP: Final = 1 << 20  # bits
_FIRST, _BEYOND = 0x60000000, 0x60200000  # tags of the groups 6000 to 601E
_ROWS, _COLUMNS = 0x0010, 0x0011
_FRAMES, _ORIGIN, _FRAME_ORIGIN = 0x0015, 0x0050, 0x0051
_BITS_ALLOCATED, _BIT_POSITION, _DATA = 0x0100, 0x0102, 0x3000


@dataclass(frozen=True, slots=True)
class Overlay:
    """One overlay plane.

    Args:
        top: row of the image, counted from 0, that its first row lies on; may be negative.
        first_frame: of the image, counted from 0, that its first frame belongs to.
        frames: 0 is one for all frames of the image.
        bit: of the pixels that holds it; -1 when it has data of its own.
    """

    group: int
    rows: int
    columns: int
    top: int
    left: int
    first_frame: int
    frames: int
    bit: int


def overlays_of(header: Dataset) -> list[Overlay]:
    """The overlays of an object that make sense."""
    tags = map(int, header.keys())  # pydicom's own tags compare slowly
    groups = {tag >> 16 for tag in tags if _FIRST <= tag < _BEYOND}
    found = (_overlay(header, group) for group in sorted(groups) if group % 2 == 0)
    return [each for each in found if each is not None]


def _overlay(header: Dataset, group: int) -> Overlay | None:
    embedded = (group, _DATA) not in header
    bit = _number(header, group, _BIT_POSITION)
    if embedded and ((group, _BIT_POSITION) not in header or _is_stored(header, bit)):
        return None
    shape = [_number(header, group, element) for element in (_ROWS, _COLUMNS)]
    if embedded:
        layout = pixel_format(header)
        image = (layout.rows, layout.columns)
        shape = [own or whole for own, whole in zip(shape, image, strict=True)]
    rows, columns = shape
    if not rows or not columns:
        return None
    origin = _numbers(header, group, _ORIGIN) or [1, 1]
    frames, first = (_number(header, group, each) for each in (_FRAMES, _FRAME_ORIGIN))
    return Overlay(
        group=group,
        rows=rows,
        columns=columns,
        top=origin[0] - 1,
        left=origin[-1] - 1,
        first_frame=max(1, first or 1) - 1,
        frames=max(1, frames or 1) if frames or first else 0,
        bit=bit if embedded else -1,
    )


def _is_stored(header: Dataset, bit: int) -> bool:
    """Whether a bit belongs to the pixel's own value."""
    layout = pixel_format(header)
    return layout.high_bit - layout.bits_stored < bit <= layout.high_bit


def has_embedded(header: Dataset) -> bool:
    """Whether an overlay lies in unused bits of the pixels."""
    return any(each.bit >= 0 for each in overlays_of(header))


def overlays_on(
    header: Dataset,
    number: int,
    shape: tuple[int, ...],
    cells: Array | None,
    reduction: int = 1,
) -> tuple[Array | None, list[Omission]]:
    """Where the overlays of a frame are drawn.

    Args:
        number: of the frame, counted from 0.
        shape: rows and columns of the frame.
        cells: Shape: (rows, columns), unsigned; the pixels' cells with all their bits.
        reduction: the divisor of the frame's size; a pixel is covered if any pixel that it stands
            for is.
    Returns:
        Shape: (rows, columns), bool, None if there is no overlay; and the overlays left out.
    """
    canvas: _Canvas | None = None
    omissions = []
    for overlay in overlays_of(header):
        if overlay.frames and not 0 <= number - overlay.first_frame < overlay.frames:
            continue
        if canvas is None:
            canvas = _Canvas(header, shape, reduction)
        if not _draw(header, overlay, number, canvas, cells):
            omissions.append(Omission(f"overlay {overlay.group:04X}", "it has too few bits"))
    return None if canvas is None else canvas.covered, omissions


class _Canvas:
    """The covered pixels of a frame, perhaps reduced."""

    def __init__(self, header: Dataset, shape: tuple[int, ...], reduction: int) -> None:
        self.covered = np.zeros(shape[:2], bool)
        self._reduction = reduction
        layout = pixel_format(header)
        self.rows, self.columns = shape[:2]
        if reduction > 1:
            self.rows, self.columns = layout.rows, layout.columns

    def strips(self, top: int, bottom: int, width: int) -> Iterator[tuple[int, int]]:
        """Rows to draw at a time; no two strips share a reduced row."""
        step = max(1, _STRIP // max(width, self.columns) // self._reduction) * self._reduction
        first = top
        while first < bottom:
            last = min(bottom, (first // step + 1) * step)
            yield first, last
            first = last

    def draw(self, top: int, left: int, lines: Array) -> None:
        """Cover the pixels of some lines, from a row and a column on."""
        reduction = self._reduction
        bottom, right = top + lines.shape[0], left + lines.shape[1]
        if reduction == 1:
            self.covered[top:bottom, left:right] |= lines
            return
        first, last = top // reduction, -(-bottom // reduction)
        whole = np.zeros(((last - first) * reduction, self.covered.shape[1] * reduction), bool)
        above = top - first * reduction
        whole[above : above + len(lines), left:right] = lines
        blocks = whole.reshape(last - first, reduction, -1, reduction)
        self.covered[first:last] |= blocks.any(axis=(1, 3))


def _draw(
    header: Dataset, overlay: Overlay, number: int, canvas: _Canvas, cells: Array | None
) -> bool:
    top, left = max(0, overlay.top), max(0, overlay.left)
    bottom = min(canvas.rows, overlay.top + overlay.rows)
    right = min(canvas.columns, overlay.left + overlay.columns)
    if top >= bottom or left >= right:
        return True  # all of it lies beside the image
    if overlay.bit >= 0:
        return _draw_embedded(overlay, canvas.covered, cells)
    frame = number - overlay.first_frame if overlay.frames else 0
    begin = (frame * overlay.rows - overlay.top) * overlay.columns  # of the image's first row
    content = header[overlay.group, _DATA].value
    if not isinstance(content, bytes | bytearray):
        return False
    if begin + bottom * overlay.columns > 8 * len(content):
        return False
    for first, last in canvas.strips(top, bottom, overlay.columns):
        at, count = begin + first * overlay.columns, (last - first) * overlay.columns
        lines = _bits(header, overlay, at, count).reshape(last - first, overlay.columns)
        canvas.draw(first, left, lines[:, left - overlay.left : right - overlay.left])
    return True


def _draw_embedded(overlay: Overlay, covered: Array, cells: Array | None) -> bool:
    if cells is None or cells.shape != covered.shape or overlay.bit >= 8 * cells.dtype.itemsize:
        return False
    step = max(1, _STRIP // covered.shape[1])
    bit = cells.dtype.type(1 << overlay.bit)
    for first in range(0, len(covered), step):
        rows = slice(first, first + step)
        covered[rows] |= cells[rows] & bit != 0
    return True


def _bits(header: Dataset, overlay: Overlay, first: int, count: int) -> Array:
    """Some bits of Overlay Data; the lowest of a byte comes first (PS3.5 section 8.1.2)."""
    element = header[overlay.group, _DATA]
    start, stop = first // 16 * 2, (first + count + 15) // 16 * 2
    piece = bytes(element.value[start:stop])
    piece = in_little_endian(piece, element.VR.encode(), is_big_endian=is_big_endian(header))
    bits = np.unpackbits(np.frombuffer(piece, np.uint8), bitorder="little")
    return bits[first - 8 * start :][:count].astype(bool)


def _numbers(header: Dataset, group: int, element: int) -> list[int]:
    try:
        found = header[group, element].value
        return [int(each) for each in (found if hasattr(found, "__iter__") else [found])]
    except MemoryError:
        raise
    except Exception:  # noqa: BLE001 - absent, empty, or pydicom raises what it likes
        return []


def _number(header: Dataset, group: int, element: int) -> int:
    return next(iter(_numbers(header, group, element)), 0)
