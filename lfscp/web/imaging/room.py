"""Checks whether a picture fits in memory before anything is decoded.

Rules: what counts is the working set, all that is in memory at one time, not what is stored. How
far a frame is reduced follows from the whole budget and from nothing that changes from one request
to the next, so that one picture always looks the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Final

from lfscp.web.imaging.errors import NotEnoughMemoryError

STRIP_BYTES: Final = 12 << 20  # that a strip of pixels takes on its way, at most
_SHOWN_GREY, _SHOWN_COLOUR = 2, 5  # bytes a pixel
_UNLIMITED: Final = 1 << 62


def _unlimited() -> int:
    return _UNLIMITED


def shown_bytes(pixels: int, is_colour: bool) -> int:  # noqa: FBT001, RUF100 - one fact
    """What comes to a decoded frame: the picture, its overlays, its encoding."""
    return pixels * (_SHOWN_COLOUR if is_colour else _SHOWN_GREY) + STRIP_BYTES


@dataclass(frozen=True, slots=True)
class Room:
    """Memory for one picture.

    Args:
        most: bytes that one picture can have when it is rendered alone.
        free: tells how many bytes there are now.
    """

    most: int = _UNLIMITED
    free: Callable[[], int] = field(default=_unlimited)

    def first_that_fits(self, reductions: Iterable[int], need: Callable[[int], int]) -> int:
        """The first of some reductions whose working set fits; the last one if none does."""
        reduction = 1
        for reduction in reductions:
            if need(reduction) <= self.most:
                break
        return reduction

    def require(self, need: int) -> None:
        """Refuse what does not fit.

        Raises:
            NotEnoughMemoryError: it needs more than is free now.
        """
        if need > self.free():
            raise NotEnoughMemoryError(need)


UNLIMITED: Final = Room()
