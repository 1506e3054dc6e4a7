"""The elements that say that an object is de-identified, and how (PS3.15 section E.1.1)."""

from __future__ import annotations

from typing import Final

from lfscp.deidentification.layout import Writer
from lfscp.deidentification.options import BASIC_PROFILE, CLEAN_PIXEL_DATA, CODES, Option
from lfscp.deidentification.table import EDITION
from lfscp.deidentification.values import padded

_IDENTITY_REMOVED: Final = 0x00120062
_METHOD: Final = 0x00120063
_METHOD_CODES: Final = 0x00120064
_DATES_MODIFIED: Final = 0x00280303


def method_elements(
    writer: Writer, options: frozenset[Option], *, cleans_pixels: bool
) -> dict[int, bytes]:
    """Patient Identity Removed, method, its codes, and what became of the dates; by tag.

    Args:
        cleans_pixels: whether pixels of this object were cleaned.
    """
    codes = [CODES[option] for option in options]
    if cleans_pixels:
        codes.append(CLEAN_PIXEL_DATA)
    codes = [BASIC_PROFILE, *sorted(codes)]
    items = b"".join(_item(writer, value, meaning) for value, meaning in codes)
    method = f"lfscp, PS3.15 {EDITION} Basic Profile"
    if Option.RETAIN_FULL_DATES in options:
        dates = b"UNMODIFIED"
    else:
        dates = b"MODIFIED" if Option.RETAIN_MODIFIED_DATES in options else b"REMOVED "
    return {
        _IDENTITY_REMOVED: writer.element(_IDENTITY_REMOVED, b"CS", b"YES "),
        _METHOD: writer.element(_METHOD, b"LO", padded(method.encode(), b"LO")),
        _METHOD_CODES: writer.element(_METHOD_CODES, b"SQ", items),
        _DATES_MODIFIED: writer.element(_DATES_MODIFIED, b"CS", dates),
    }


def _item(writer: Writer, value: str, meaning: str) -> bytes:
    elements = (
        (0x00080100, b"SH", value),
        (0x00080102, b"SH", "DCM"),
        (0x00080104, b"LO", meaning),
    )
    return writer.item(
        b"".join(writer.element(tag, vr, padded(text.encode(), vr)) for tag, vr, text in elements)
    )
