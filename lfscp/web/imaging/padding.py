"""Finds pixels that are padding: no measurement, so not for display (PS3.3 section C.7.5.1.1.2).

The attributes speak of stored values, so they are compared before any transformation.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from pydicom.dataset import Dataset

from lfscp.services.transcoding.decoded import Array
from lfscp.web.imaging.functional_groups import value

_FLOAT: Final = ("FloatPixelPaddingValue", "FloatPixelPaddingRangeLimit")
_DOUBLE: Final = ("DoubleFloatPixelPaddingValue", "DoubleFloatPixelPaddingRangeLimit")
_INTEGER: Final = ("PixelPaddingValue", "PixelPaddingRangeLimit")


def padding_of(stored: Array, header: Dataset) -> Array | None:
    """Find the padding of a frame.

    Args:
        stored: Shape: (rows, columns), stored values.
    Returns:
        Shape: (rows, columns), bool; None when there is none.
    """
    if stored.dtype.kind == "f":
        found = np.isnan(stored)
        for keywords in (_FLOAT, _DOUBLE):
            found |= _between(stored, *(_float(header, each, stored.dtype) for each in keywords))
    else:
        bounds = [_integer(header, each, stored.dtype) for each in _INTEGER]
        if bounds[0] is None:
            return None
        found = _between(stored, *bounds)
    return found if found.any() else None


def integer_padding(header: Dataset, dtype: np.dtype[Any]) -> tuple[int, int] | None:
    """The lowest and the highest stored value that are padding; None if none is.

    Args:
        dtype: of the stored values, integers.
    """
    first, last = (_integer(header, each, dtype) for each in _INTEGER)
    if first is None:
        return None
    last = first if last is None else last
    return min(first, last), max(first, last)


def _between(stored: Array, padding: Any, limit: Any) -> Array:
    if padding is None:
        return np.zeros(stored.shape, bool)
    if limit is None or limit == padding:
        return np.asarray(stored == padding)
    low, high = min(padding, limit), max(padding, limit)
    return np.asarray((stored >= low) & (stored <= high))


def _float(header: Dataset, keyword: str, dtype: np.dtype[Any]) -> Any:
    number = _number(header, keyword)
    if number is None or np.isnan(number):
        return None
    with np.errstate(over="ignore"):
        return dtype.type(number)


def _integer(header: Dataset, keyword: str, dtype: np.dtype[Any]) -> int | None:
    """The value with the sign of the pixels; its VR, US or SS, is often wrong."""
    number = _number(header, keyword)
    if number is None or not np.isfinite(number):
        return None
    bits = min(16, 8 * dtype.itemsize)
    whole = int(number)
    if dtype.kind == "i" and (1 << bits - 1) <= whole < 1 << bits:
        return whole - (1 << bits)
    return (whole & 0xFFFF) if dtype.kind == "u" else whole


def _number(header: Dataset, keyword: str) -> float | None:
    found = value(header, keyword)
    if hasattr(found, "__iter__") and not isinstance(found, str | bytes):
        found = next(iter(found), None)
    if isinstance(found, bytes):  # neither US nor SS, so pydicom left it alone
        found = int.from_bytes(found[:2], "little")
    try:
        return None if found is None else float(found)
    except (TypeError, ValueError, OverflowError):
        return None
