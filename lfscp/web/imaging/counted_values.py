"""Counts the values of a frame, for a window around nearly all of them.

Rules: what is counted gives the same percentiles as all values would. Of most frames it is enough
to count the values at both ends, which takes a third of the time of counting all.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np

from lfscp.services.transcoding.decoded import Array

_STRIP: Final = 1 << 15  # pixels: their values stay in the processor's cache
_FEWEST, _MOST = 1 << 14, 1 << 21  # pixels of frames of which the ends are counted
_STEP: Final = 8  # rows and columns: every 64th pixel is looked at to find where the ends begin
_END: Final = 0.01  # part of the values at each end


def strips(rows: int, columns: int) -> Iterator[slice]:
    """Rows to work on at a time, so that large frames need little memory."""
    step = max(1, _STRIP // max(1, columns))
    return (slice(first, first + step) for first in range(0, rows, step))


def counts_of_cells(cells: Array, *, is_signed: bool) -> tuple[Array, Array]:
    """The different cells of a frame, and how often each is there.

    Only the range that is in use is counted: a table of all 65,536 cells costs more than a slice.
    With a sign, cells from -1 to 0 lie side by side.
    """
    numbers = cells.view(f"i{cells.dtype.itemsize}") if is_signed else cells
    low, high = int(numbers.min()), int(numbers.max())
    counts = np.zeros(high - low + 1, np.int64)
    for rows in strips(*cells.shape[:2]):
        above = numbers[rows].reshape(-1).astype(np.intp)
        if low:
            above -= low
        counts += np.bincount(above, minlength=len(counts))
    present = np.flatnonzero(counts)
    return (present + low).astype(numbers.dtype).view(cells.dtype), counts[present]


def may_count_ends(cells: Array) -> bool:
    """Whether `counts_at_ends` is worth its while, and needs little memory."""
    return _FEWEST <= cells.size <= _MOST


def _inside(stored: Array, padding: tuple[int, int] | None) -> Array | None:
    """Where values count; None if all do."""
    if padding is None or padding[1] < int(stored.min()) or int(stored.max()) < padding[0]:
        return None
    info = np.iinfo(stored.dtype)
    low, high = (stored.dtype.type(min(max(each, info.min), info.max)) for each in padding)
    return np.asarray((stored < low) | (stored > high))


def counts_at_ends(
    stored: Array, padding: tuple[int, int] | None, percentiles: tuple[float, float]
) -> tuple[Array, Array] | None:
    """Values in ascending order and their counts, which have the same extremes and percentiles.

    Values may come more than once; one stands for all between the ends.

    Args:
        stored: integers.
        padding: the lowest and the highest value that do not count; None if all do.
        percentiles: a low and a high one.
    Returns:
        None if the percentiles are not at the ends.
    """
    inside = _inside(stored, padding)
    sample = stored[::_STEP, ::_STEP]
    if inside is not None:
        sample = sample[inside[::_STEP, ::_STEP]]
    sample = np.sort(sample, axis=None)
    first = int(_END * len(sample))
    if not len(sample) or sample[first] >= sample[-1 - first]:
        return None
    ends = sample[first], sample[-1 - first]
    masks = [stored < ends[0], stored <= ends[0], stored >= ends[1], stored > ends[1]]
    if inside is not None:
        masks = [each & inside for each in masks]
    flat = stored.ravel()
    low, high = (np.sort(flat.compress(each.ravel())) for each in (masks[0], masks[3]))
    to_low, from_high = (int(np.count_nonzero(each)) for each in masks[1:3])
    count = stored.size if inside is None else int(np.count_nonzero(inside))
    places = [each / 100 * (count - 1) for each in percentiles]
    if to_low < int(places[0]) + 2 or count - from_high > int(places[1]):
        return None
    middle = [to_low - len(low), count - to_low - from_high, from_high - len(high)]
    values = np.concatenate((low, [ends[0], ends[0], ends[1]], high)).astype(stored.dtype)
    ones = np.ones(max(len(low), len(high)), np.int64)
    return values, np.concatenate((ones[: len(low)], middle, ones[: len(high)]))
