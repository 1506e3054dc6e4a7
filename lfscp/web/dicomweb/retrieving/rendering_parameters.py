"""Reads the parameters of a rendering from a query (PS3.18 section 8.3.5.1).

Rules: a wrong value of a known parameter is a bad request. What is in the standard and is not done
here is left out, and a warning says so. A viewport has at most 4,096 pixels in each direction.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Final, get_args

from lfscp.web.dicomweb.answering import Asked
from lfscp.web.dicomweb.warning_header import warning_headers
from lfscp.web.dicomweb.whole_numbers import whole_number
from lfscp.web.imaging.windows import Function, Window
from lfscp.web.problems import Problem
from lfscp.web.rendering.renderer import JPEG_QUALITY, Region, Wanted

MAX_VIEWPORT: Final = 4096  # pixels
_MAX_NUMBER: Final = 1e12  # no stored value is larger; keeps out infinity and NaN
_NOT_DONE: Final = ("annotation", "iccprofile", "presentationUID", "presentationSeriesUID")
_FUNCTIONS: Final[dict[str, Function]] = {
    each.lower().replace("_", "-"): each for each in get_args(Function)
}


@dataclass(frozen=True, slots=True)
class Rendering:
    """A picture as it is asked for, and the headers that say what is left out."""

    picture: Wanted
    warnings: dict[str, str] = field(default_factory=dict)


def refused(name: str, expected: str) -> Problem:
    """The answer to a wrong value."""
    return Problem(HTTPStatus.BAD_REQUEST, f"{name}: expected {expected}")


def rendering_of(asked: Asked, *, edge: int = 0) -> Rendering:
    """What the query asks for.

    Args:
        edge: longest edge when no viewport is asked for; 0 is the size of the frame.
    Raises:
        Problem: a value is wrong (400).
    """
    viewport, region = _viewport(asked.parameter("viewport"))
    missing = [name for name in _NOT_DONE if asked.parameter(name) is not None]
    picture = Wanted(
        window=_window(asked.parameter("window")),
        edge=0 if viewport else edge,
        quality=quality_of(asked.parameter("quality"), "quality"),
        viewport=viewport,
        region=region,
    )
    return Rendering(picture, warning_headers(f"{name} is not supported" for name in missing))


def quality_of(text: str | None, name: str) -> int:
    """The quality of JPEG."""
    if text is None:
        return JPEG_QUALITY
    quality = whole_number(text, 100)
    if not quality:
        raise refused(name, "a whole number from 1 to 100")
    return quality


def number_of(text: str, name: str, expected: str) -> float:
    """A finite number."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not abs(value) <= _MAX_NUMBER:
        raise refused(name, expected)
    return value


def pixels_of(text: str, name: str) -> int:
    """A number of pixels of a viewport."""
    pixels = whole_number(text, MAX_VIEWPORT)
    if not pixels:
        raise refused(name, f"whole numbers from 1 to {MAX_VIEWPORT}")
    return pixels


def _window(text: str | None) -> Window | None:
    if text is None:
        return None
    expected = "center,width,function, with the function linear, linear-exact or sigmoid"
    parts = [part.strip() for part in text.split(",")]
    function: Function | None = "LINEAR"
    if len(parts) == 3:
        function = _FUNCTIONS.get(parts[2].lower().replace("_", "-"))
    if len(parts) not in (2, 3) or function is None:
        raise refused("window", expected)
    center, width = (number_of(part, "window", expected) for part in parts[:2])
    if width <= 0:
        raise refused("window", "a width above 0")
    return Window(center, width, function)


def _viewport(text: str | None) -> tuple[tuple[int, int] | None, Region | None]:
    """Width and height, and the region if there is one."""
    if text is None:
        return None, None
    parts = [part.strip() for part in text.split(",")]
    if len(parts) not in (2, 6):
        raise refused("viewport", "width,height or width,height,left,top,width,height")
    size = pixels_of(parts[0], "viewport"), pixels_of(parts[1], "viewport")
    return size, _region(parts[2:])


def _region(parts: Sequence[str]) -> Region | None:
    if not any(parts):
        return None
    expected = "numbers of pixels for left, top, width and height"
    left, top, width, height = (number_of(part or "0", "viewport", expected) for part in parts)
    if left < 0 or top < 0:
        raise refused("viewport", "a region that begins in the image")
    return Region(left, top, width, height, in_pixels=True)
