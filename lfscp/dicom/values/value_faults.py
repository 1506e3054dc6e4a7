"""Tells what is wrong with one value of text, by its value representation.

It is for data that people and scripts enter: what arrives as DICOM is kept as it is.
Source: PS3.5 section 6.2, table 6.2-1.
"""

from __future__ import annotations

import re
from datetime import date
from typing import Final

from lfscp.dicom.values.attributes import SINGLE_VALUE_VRS

# The most characters; of a person name in each component group.
LENGTHS: Final = {"AE": 16, "AS": 4, "CS": 16, "DA": 8, "DS": 16, "DT": 26} | {
    "IS": 12,
    "LO": 64,
    "LT": 10240,
    "PN": 64,
    "SH": 16,
    "ST": 1024,
    "TM": 14,
    "UI": 64,
}
_TIME: Final = r"([01][0-9]|2[0-3])([0-5][0-9](([0-5][0-9]|60)(\.[0-9]{1,6})?)?)?"
_FORMS: Final = {
    "AS": (re.compile(r"[0-9]{3}[DWMY]"), "expected an age such as 047Y"),
    "CS": (re.compile(r"[A-Z0-9 _]+"), "only capitals, digits, spaces and underscores are allowed"),
    "DA": (re.compile(r"[0-9]{8}"), "expected a date YYYYMMDD"),
    "DS": (
        re.compile(r" *[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)? *"),
        "expected a number",
    ),
    "DT": (
        re.compile(
            rf"[0-9]{{4}}([0-9]{{2}}([0-9]{{2}}({_TIME})?)?)?([+-](0[0-9]|1[0-4])[0-5][0-9])?"
        ),
        "expected a date and time YYYYMMDDHHMMSS",
    ),
    "IS": (re.compile(r" *[+-]?[0-9]+ *"), "expected a whole number"),
    "TM": (re.compile(_TIME), "expected a time HHMMSS"),
    "UI": (re.compile(r"(0|[1-9][0-9]*)(\.(0|[1-9][0-9]*))*"), "expected a UID"),
    "UR": (re.compile(r"[!-~]+"), "expected an address without spaces"),
}
_ASCII: Final = frozenset({"AE", "UR"})
_LINES: Final = frozenset({"LT", "ST", "UT"})
_CONTROL: Final = re.compile(r"[\0-\x1f\x7f-\x9f]")
_NO_TEXT: Final = re.compile(r"[\0-\x08\x0b\x0e-\x1f\x7f-\x9f]")  # also in text of several lines
_MAX_IS: Final = 2**31


def fault_of(vr: str, value: str) -> str:
    """What is wrong with a value, in a few words; empty if nothing is.

    Args:
        vr: of text, such as "DA".
        value: one value, not empty.
    """
    if not value.isascii() and any("\ud800" <= each <= "\udfff" for each in value):
        return "half of a surrogate pair is no character"
    if (_NO_TEXT if vr in _LINES else _CONTROL).search(value):
        return "control characters are not allowed"
    if "\\" in value and vr not in SINGLE_VALUE_VRS:
        return "a backslash separates values; give several values as a list"
    return _wrong_form(vr, value) or _too_long(vr, value)


def _too_long(vr: str, value: str) -> str:
    most = LENGTHS.get(vr)
    parts = value.split("=") if vr == "PN" else [value]
    if most is not None and max(map(len, parts)) > most:
        return f"at most {most} characters are allowed"
    return "at most three groups of a name are allowed" if len(parts) > 3 else ""


def _wrong_form(vr: str, value: str) -> str:
    if vr in _ASCII and not value.isascii():
        return "only ASCII characters are allowed"
    if vr in _FORMS:
        form, reason = _FORMS[vr]
        if not form.fullmatch(value) or (vr == "DA" and not _is_day(value)):
            return reason
    if vr == "IS" and len(value) <= LENGTHS["IS"] and not -_MAX_IS <= int(value) < _MAX_IS:
        return "the number is too large"
    return ""


def _is_day(value: str) -> bool:
    try:
        date(int(value[:4]), int(value[4:6]), int(value[6:]))
    except ValueError:
        return False
    return True
