"""Reads values of elements as text, checks texts, and writes them as values.

Rules: several values are joined by backslashes; numbers are decimal. What does not fit its VR is an
error and never cut.
Source: PS3.5 section 6.2.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, Final, Literal

from pydicom import config
from pydicom.datadict import dictionary_VR
from pydicom.valuerep import validate_value

from lfscp.dicom.encoding.value_representations import NUMBER_FORMATS
from lfscp.dicom.reading.header import is_uid
from lfscp.dicom.values.attributes import (
    ASCII_VRS,
    CHARACTER_VRS,
    LEADING_SPACE_VRS,
    SINGLE_VALUE_VRS,
    TEXT_VRS,
)
from lfscp.dicom.values.charset import decode

SETTABLE_VRS: Final = TEXT_VRS | frozenset(NUMBER_FORMATS)
_LINE_SIGNS: Final = frozenset("\t\n\f\r")
_MAX_SHORT: Final = 65_534  # bytes

Order = Literal["little", "big"]
Encode = Callable[[str], bytes]


@lru_cache(maxsize=4096)
def dictionary_vr(tag: int) -> str:
    """The VR that the dictionary has for a tag; the first if it leaves a choice, "UN" for none."""
    if tag >> 16 & 1:
        return "LO" if 0x10 <= tag & 0xFFFF <= 0xFF else "UN"
    try:
        return dictionary_VR(tag).split(" or ")[0]
    except KeyError:
        return "UN"


def text_of(value: bytes, vr: str, codecs: Sequence[str], byteorder: Order) -> str:
    """A value as text, without its padding; empty if it is no text and no number."""
    if vr in NUMBER_FORMATS:
        form = ("<" if byteorder == "little" else ">") + NUMBER_FORMATS[vr]
        width = struct.calcsize(form)
        whole = value[: len(value) // width * width]
        return "\\".join(_decimal(number) for (number,) in struct.iter_unpack(form, whole))
    if vr in CHARACTER_VRS:
        text = decode(value, codecs, vr)
    elif vr in ASCII_VRS:
        text = value.decode("latin_1")
    else:
        return ""
    return text.rstrip(" \0") if vr in LEADING_SPACE_VRS else text.strip(" \0")


def _decimal(number: float) -> str:
    return repr(number) if isinstance(number, float) else str(number)


def fault_of(text: str, vr: str) -> str:
    """What is expected of a value of a VR, if a text is none; empty if it is one."""
    if vr not in SETTABLE_VRS:
        return f"an attribute of text or numbers; its VR is {vr}"
    values = [text] if vr in SINGLE_VALUE_VRS else text.split("\\")
    return next((fault for each in values if each and (fault := _fault(each, vr))), "")


def _fault(value: str, vr: str) -> str:
    if vr in NUMBER_FORMATS:
        try:
            struct.pack("<" + NUMBER_FORMATS[vr], _number(value, vr))
        except (ValueError, struct.error, OverflowError):
            return f"a number of VR {vr}"
        return ""
    if vr == "UI":
        return "" if is_uid(value) else "a UID"
    allowed = _LINE_SIGNS if vr in LEADING_SPACE_VRS else frozenset()
    if any(not sign.isprintable() and sign not in allowed for sign in value):
        return "text without control characters"
    if vr in ASCII_VRS and not value.isascii():
        return f"a value of VR {vr}, which is ASCII"
    try:
        validate_value(vr, value, config.RAISE)
    except (ValueError, TypeError):
        return f"a value of VR {vr}"
    return ""


def _number(value: str, vr: str) -> Any:
    return float(value) if vr in ("FL", "FD") else int(value)


def value_of(text: str, vr: str, encode: Encode, byteorder: Order) -> bytes:
    """A text, which `fault_of` finds nothing wrong with, as a value of even length.

    Raises:
        UnicodeEncodeError: `encode` cannot encode it.
        ValueError: it is too long for its VR.
    """
    if vr in NUMBER_FORMATS:
        form = ("<" if byteorder == "little" else ">") + NUMBER_FORMATS[vr]
        return b"".join(struct.pack(form, _number(each, vr)) for each in text.split("\\") if each)
    value = encode(text) if vr in CHARACTER_VRS else text.encode("ascii")
    if len(value) % 2:
        value += b"\0" if vr == "UI" else b" "
    if len(value) > _MAX_SHORT and vr not in ("UC", "UR", "UT"):
        raise ValueError(f"a value of VR {vr} with less than 64 kB")
    return value
