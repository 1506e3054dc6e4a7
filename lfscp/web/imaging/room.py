"""Checks whether a picture fits in memory before anything is decoded.

Rules: the working set counts, which is all memory in use at one time, not the size on disk. How far
a frame is reduced depends on the whole budget only, and on nothing that changes between requests,
so that a picture always looks the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

from lfscp.web.imaging.errors import NotEnoughMemoryError

STRIP_BYTES: Final = 12 << 20  # that a strip of pixels takes on its way, at most
_SHOWN_GREY, _SHOWN_COLOUR = 2, 5  # bytes a pixel
_UNLIMITED: Final = 1 << 62


def shown_bytes(pixels: int, is_colour: bool) -> int:  # noqa: FBT001, RUF100 - one fact
    """Memory beside a decoded frame: the picture, its overlays, its encoding."""
    return pixels * (_SHOWN_COLOUR if is_colour else _SHOWN_GREY) + STRIP_BYTES


@dataclass(frozen=True, slots=True)
class Room:
    """Memory for one picture.

    Args:
        most: bytes that one picture can have when it is rendered alone.
        free: tells how many bytes are free now.
    """

    most: int = _UNLIMITED
    free: Callable[[], int] = lambda: _UNLIMITED

    def first_that_fits(self, reductions: Iterable[int], need: Callable[[int], int]) -> int:
        """The first of some reductions whose working set fits; the last one if none does."""
        reduction = 1
        for reduction in reductions:
            if need(reduction) <= self.most:
                break
        return reduction

    def require(self, need: int) -> None:
        """Refuse a picture that does not fit.

        Raises:
            NotEnoughMemoryError: it needs more than is free now.
        """
        if need > self.free():
            raise NotEnoughMemoryError(need)


UNLIMITED: Final = Room()
