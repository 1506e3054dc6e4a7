"""Does the tasks of a rendering process: describe an object, draw a frame, read what it says.

Each task takes the object's file, what was asked, what is remembered from before, and the memory
that it may use; it returns the fields and the bytes of its answer.
"""

from __future__ import annotations

import contextlib
import errno
import json
import math
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any, Final

import numpy as np
from PIL import Image, JpegImagePlugin, PngImagePlugin
from pydicom.dataset import Dataset

from lfscp.archive.errors import OutOfResourcesError
from lfscp.archive.store import spool
from lfscp.archive.store.deflated import MAX_INFLATED_BYTES
from lfscp.services.transcoding.decoded import Array
from lfscp.web.documents.report import report
from lfscp.web.documents.waveforms import curves, groups
from lfscp.web.imaging.errors import NoPictureError, Omission
from lfscp.web.imaging.frames import Frame, to_display, window_around
from lfscp.web.imaging.functional_groups import forget_values
from lfscp.web.imaging.object_header import read_header
from lfscp.web.imaging.room import Room, shown_bytes
from lfscp.web.imaging.stored_values import has_stored_values, stored_values
from lfscp.web.imaging.windows import Window
from lfscp.web.rendering.decoding import aspect_of, decode, describe, frames_of
from lfscp.web.rendering.elements import elements

__all__ = ["TASKS", "JpegImagePlugin", "Memory", "PngImagePlugin"]  # the plugins: loaded once

MAX_EDGE: Final = 4096  # pixels of a rendered picture
_HEADERS: Final = 4
_INFLATED_BYTES: Final = 2 * MAX_INFLATED_BYTES  # of this object, and of the last one
Image.MAX_IMAGE_PIXELS = None  # the room decides

Answer = tuple[dict[str, Any], bytes | memoryview]


@dataclass(slots=True)
class Memory:
    """The headers and frames that were asked for last.

    Args:
        most_frames: bytes of frames.
    """

    most_frames: int = 0
    _headers: OrderedDict[str, Dataset] = field(default_factory=OrderedDict)
    _frames: OrderedDict[tuple[str, int, int], Frame] = field(default_factory=OrderedDict)
    _held: int = 0  # bytes of these frames
    _passing: tuple[str, int, int] | None = None  # the one that leaves with the next picture

    def header(self, path: Path, state: str) -> Dataset:
        """The attributes of an object; `state` names its content."""
        known = self._headers.get(state)
        if known is None:
            known = self._headers[state] = read_header(path)
        self._headers.move_to_end(state)
        while len(self._headers) > _HEADERS:
            self._headers.popitem(last=False)
        return known

    def frame(
        self, path: Path, state: str, number: int, edge: int, room: Room, *, passes: bool = False
    ) -> tuple[Frame, tuple[Omission, ...]]:
        """A frame, with its omissions if it was not remembered.

        Args:
            passes: it is for a picture that the node keeps, so it is hardly asked for again: the
                next such frame takes its memory, which is faster than taking new memory.
        """
        header = self.header(path, state)
        whole, wanted = (state, number, 0), (state, number, edge)
        for each in (whole, wanted):
            known = self._frames.get(each)
            if known is not None:
                self._frames.move_to_end(each)  # the longest unused leave first
                if self._passing == each:
                    self._passing = None
                return known, ()
        if passes:
            self._let_pass()
        frame = decode(path, header, number, edge, room)
        key = wanted if frame.reduction > 1 else whole
        self._remember(key, frame)
        self._passing = key if passes else self._passing
        return frame, frame.omissions

    def _let_pass(self) -> None:
        left = self._frames.pop(self._passing, None) if self._passing is not None else None
        self._held -= left.size if left is not None else 0
        self._passing = None

    def _remember(self, key: tuple[str, int, int], frame: Frame) -> None:
        shown = 2 if frame.is_colour else 1  # a picture in colour needs as much again
        if shown * frame.size > self.most_frames:
            return
        self._frames[key] = frame
        self._held += frame.size
        while self._held > self.most_frames:
            self._held -= self._frames.popitem(last=False)[1].size

    def clear(self) -> None:
        """Forget all of them."""
        self._headers.clear()
        self._frames.clear()
        forget_values()
        self._held = 0
        self._passing = None


Task = Callable[[Path, dict[str, Any], Memory, Room], Answer]


def _describe(path: Path, asked: dict[str, Any], memory: Memory, room: Room) -> Answer:
    """Describe an object, with a window around the frame's values if it has none of its own."""
    found = describe(memory.header(path, asked["state"]), asked["frame"])
    fitting: Window | None = None
    omissions: tuple[Omission, ...] = ()
    if found.window is None and not found.is_colour:
        try:
            number = asked["frame"]
            frame, omissions = memory.frame(path, asked["state"], number, MAX_EDGE, room)
            fitting = None if frame.is_colour else window_around(frame)
        except NoPictureError:  # it says so when the frame is asked for
            pass
    answer = {"description": asdict(found), "omissions": omissions}
    return answer | {"fitting": asdict(fitting) if fitting else None}, b""


def _draw(path: Path, asked: dict[str, Any], memory: Memory, room: Room) -> Answer:
    """Draw a frame as JPEG or PNG; without a number, the middle one."""
    number, edge = asked["frame"], asked["edge"]
    if number is None:
        number = frames_of(memory.header(path, asked["state"])) // 2
    viewport, region = asked["viewport"], asked["region"]
    if viewport is not None:
        edge = 0 if region else max(viewport)
    frame, omissions = memory.frame(
        path, asked["state"], number, edge or MAX_EDGE, room, passes=asked["is_kept"]
    )
    pixels = max(frame.cells.shape[0] * frame.cells.shape[1], math.prod(viewport or (0,)))
    room.require(shown_bytes(pixels, frame.is_colour))
    window = Window(**asked["window"]) if asked["window"] else None
    picture = _picture(to_display(frame, window, overlays=asked["overlays"]))
    aspect = aspect_of(frame.header, frame.number)
    del frame  # frees its memory while the picture is encoded, unless it is remembered
    if region is not None:
        found = describe(memory.header(path, asked["state"]))
        size = (found.columns, found.rows) if region["in_pixels"] else (1, 1)
        picture = _part(picture, region, *size)
    size = _size(picture.size, aspect, edge, viewport)
    if size != picture.size:
        method = Image.Resampling.LANCZOS if edge or viewport else Image.Resampling.BILINEAR
        picture = picture.resize(size, method)
    content = _encoded(picture, asked["encoding"], asked["quality"])
    return {"omissions": omissions, "frame": number}, content


def _picture(shown: Array) -> Image.Image:
    """A picture of what a screen shows; a grey one without a copy."""
    if shown.ndim == 3:
        return Image.fromarray(shown)
    rows, columns = shown.shape
    return Image.frombuffer("L", (columns, rows), shown, "raw", "L", 0, 1)


def _values(path: Path, asked: dict[str, Any], memory: Memory, room: Room) -> Answer:
    """A frame as values of 16 bits, and the numbers that a viewer needs to show them.

    One bit a pixel follows if the frame has overlays: whether they cover it, the lowest bit first.
    """
    header = memory.header(path, asked["state"])
    frames_of(header)
    if not has_stored_values(header):
        raise NoPictureError("only grey frames of up to 16 bits, not too large, are sent as values")
    frame, omissions = memory.frame(path, asked["state"], asked["frame"], 0, room)
    room.require(shown_bytes(frame.cells.size, is_colour=False))
    found = stored_values(frame)
    content = found.content.tobytes()
    if found.overlays is not None:
        content += np.packbits(found.overlays.ravel(), bitorder="little").tobytes()
    rows, columns = found.content.shape
    about = {
        "rows": rows,
        "columns": columns,
        "is_signed": found.content.dtype.kind == "i",
        "slope": found.slope,
        "intercept": found.intercept,
        "units": found.units,
        "precision": found.precision,
        "padding": found.padding,
        "is_inverse": found.is_inverse,
        "window": asdict(found.window) if found.window else None,
        "has_overlays": found.overlays is not None,
    }
    return {"omissions": omissions, "values": about}, content


def _part(picture: Image.Image, region: dict[str, Any], columns: int, rows: int) -> Image.Image:
    """A part of a picture, at least one pixel.

    Args:
        columns, rows: of the whole, as the region counts.
    """
    across, down = picture.size[0] / columns, picture.size[1] / rows
    first, last = _ends(region["left"] * across, region["width"] * across, picture.size[0])
    top, bottom = _ends(region["top"] * down, region["height"] * down, picture.size[1])
    part = picture.crop((first, top, last, bottom))
    if region["width"] < 0:
        part = part.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    return part.transpose(Image.Transpose.FLIP_TOP_BOTTOM) if region["height"] < 0 else part


def _ends(begin: float, length: float, size: int) -> tuple[int, int]:
    first = min(int(begin), size - 1)
    return first, min(size, max(first + 1, round(begin + abs(length)))) if length else size


def _encoded(picture: Image.Image, encoding: str, quality: int) -> memoryview:
    out = BytesIO()
    options: dict[str, Any] = {"quality": quality} if encoding == "jpeg" else {}
    if encoding == "png":
        options["compress_level"] = 1
    picture.save(out, encoding.upper(), **options)
    return out.getbuffer()


def _size(
    size: tuple[int, int], aspect: float, edge: int, viewport: Sequence[int] | None
) -> tuple[int, int]:
    """The picture's size in square pixels: no edge longer than asked, or fitted into a viewport."""
    width, height = float(size[0]), float(size[1])
    if abs(aspect - 1) > 0.01:
        width, height = (width, height * aspect) if aspect > 1 else (width / aspect, height)
    if viewport is not None:
        factor = min(viewport[0] / width, viewport[1] / height)
    else:
        longest = min(edge or MAX_EDGE, MAX_EDGE)
        factor = min(1.0, longest / max(width, height))
    return max(1, round(width * factor)), max(1, round(height * factor))


def _elements(path: Path, asked: dict[str, Any]) -> Answer:
    """List some elements as JSON; `next` is where the following ones begin."""
    found, following = elements(path, asked["first"], asked["most_elements"])
    return {"next": following}, json.dumps([asdict(each) for each in found]).encode()


def _report(path: Path, asked: dict[str, Any]) -> Answer:  # noqa: ARG001 - a task
    """Give a structured report as JSON."""
    return {}, json.dumps(asdict(report(path))).encode()


def _waveforms(path: Path, asked: dict[str, Any]) -> Answer:  # noqa: ARG001 - a task
    """List the groups of waveforms and the annotations as JSON."""
    found, noted = groups(path)
    answer = {"groups": [asdict(each) for each in found], "annotations": noted}
    return {}, json.dumps(answer).encode()


def _curves(path: Path, asked: dict[str, Any]) -> Answer:
    """Give some seconds of a group of waveforms as JSON."""
    wanted = (asked[each] for each in ("group", "start_s", "seconds", "points"))
    return {}, json.dumps(asdict(curves(path, *wanted))).encode()


def _inflating(do: Callable[[Path, dict[str, Any]], Answer]) -> Task:
    """A task that reads a whole dataset.

    A deflated object is inflated in the node's folder: the system's one may be in memory.
    """

    def task(path: Path, asked: dict[str, Any], memory: Memory, room: Room) -> Answer:  # noqa: ARG001 - a task
        with contextlib.suppress(OSError):  # there is no such folder, since its disk is full
            spool.use(Path(asked["folder"]), _INFLATED_BYTES, asked["reserve_mb"])
        try:
            return do(path, asked)
        except OutOfResourcesError as error:
            return {"no_space": f"the disk has no room to inflate it: {error.reason}"}, b""
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            return {"no_space": f"the disk has no room to inflate it: {error.strerror}"}, b""

    return task


TASKS: Final[dict[str, Task]] = {
    "describe": _describe,
    "draw": _draw,
    "values": _values,
    "elements": _inflating(_elements),
    "report": _inflating(_report),
    "waveforms": _inflating(_waveforms),
    "curves": _inflating(_curves),
}
