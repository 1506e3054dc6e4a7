"""Values of one element: whether they are valid, a dummy of each VR, and dates that are shifted.

Source: PS3.5 table 6.2-1.
"""

from __future__ import annotations

import re
from datetime import date, timedelta
from typing import Final

from lfscp.dicom.encoding.value_representations import WIDTH, padding_of


def _list_of(one: bytes) -> re.Pattern[bytes]:
    """Any number of values of one form, which may be empty, with padding.

    No digit can belong to two values, so that a long one that does not match is refused at once.
    """
    return re.compile(rb"(?:%b)? *(?:\\(?:%b)? *)*\0?" % (one, one))


_FRACTION: Final = rb"(?:\.[0-9]{0,6})?"
_TIME: Final = rb"[0-9]{2}(?::?[0-9]{2}(?::?[0-9]{2}%b)?)?" % _FRACTION
_DATE_AND_TIME: Final = (
    rb"([0-9]{4})([0-9]{2})?([0-9]{2})?((?:[0-9]{2}){0,3}%b)([+-][0-9]{4})?" % _FRACTION
)
# What a value that stays may be made of; several values are apart by backslashes. The bounds are
# wider than the standard's where devices commonly exceed them, and still hold no sentence.
PATTERNS: Final = {
    b"CS": re.compile(rb"[A-Z0-9 _]{0,32}(?:\\[A-Z0-9 _]{0,32})*\0?"),
    b"DS": re.compile(rb"[0-9+\-.eE ]{0,32}(?:\\[0-9+\-.eE ]{0,32})*\0?"),
    b"IS": re.compile(rb"[0-9+\-. ]{0,16}(?:\\[0-9+\-. ]{0,16})*\0?"),
    b"AS": _list_of(rb"[0-9]{3}[DWMY]"),
    b"DA": _list_of(rb"[0-9]{8}|[0-9]{4}\.[0-9]{2}\.[0-9]{2}"),
    b"TM": _list_of(_TIME),
    b"DT": _list_of(_DATE_AND_TIME),
    b"AE": re.compile(rb"[ -~]*\0?"),
    b"UI": _list_of(rb"[0-9]+(?:\.[0-9]+)+"),
}
TIMEZONE: Final = re.compile(rb"[+-][0-9]{4} ?")
_DUMMIES: Final = {
    b"AE": b"ANONYMIZED",
    b"AS": b"000D",
    b"CS": b"UNKNOWN",
    b"DA": b"19000101",
    b"DS": b"0",
    b"DT": b"19000101000000",
    b"IS": b"0",
    b"PN": b"Anonymized",
    b"TM": b"000000",
    b"UR": b"urn:removed",
    b"UI": b"2.25.0",
}
_REMOVED: Final = b"REMOVED"
_TEXT: Final = frozenset(b"LO SH LT ST UC UT".split())
_DATE: Final = re.compile(rb"([0-9]{4})\.?([0-9]{2})\.?([0-9]{2})")
_DATE_TIME: Final = re.compile(_DATE_AND_TIME)


def padded(value: bytes, vr: bytes) -> bytes:
    """The value with an even number of bytes."""
    return value + padding_of(vr) if len(value) % 2 else value


def dummy(vr: bytes) -> bytes:
    """A value that is valid for a VR and tells nothing."""
    if vr in _TEXT:
        return padded(_REMOVED, vr)
    if vr in _DUMMIES:
        return padded(_DUMMIES[vr], vr)
    return bytes(max(WIDTH.get(vr, 2), 2))


def with_dummies(value: bytes, vr: bytes) -> bytes:
    """A multiple value in which each invalid one is replaced."""
    pattern = PATTERNS.get(vr)
    if pattern is None:
        return dummy(vr)
    parts = value.split(b"\\")
    kept = (part if pattern.fullmatch(part) else dummy(vr).strip() for part in parts)
    return padded(b"\\".join(kept), vr)


def shifted(value: bytes, vr: bytes, days: int) -> bytes:
    """Dates that are some days earlier. Times of the day stay; what is no date is replaced."""
    parts = [_shift(part.strip(b" \0"), vr, days) for part in value.split(b"\\")]
    return padded(b"\\".join(parts), vr)


def _shift(part: bytes, vr: bytes, days: int) -> bytes:
    if not part:
        return part
    if vr == b"TM":
        return part if PATTERNS[b"TM"].fullmatch(part) else _DUMMIES[vr]
    match = (_DATE if vr == b"DA" else _DATE_TIME).fullmatch(part)
    if match is None:
        return _DUMMIES[vr]
    year, month, day, *rest = match.groups()
    try:
        moved = date(int(year), int(month or 1), int(day or 1)) - timedelta(days)
    except (ValueError, OverflowError):
        return _DUMMIES[vr]
    text = b"%04d%02d%02d" % (moved.year, moved.month, moved.day)
    end = 4 + 2 * (month is not None) + 2 * (day is not None)
    return text[:end] + b"".join(each or b"" for each in rest)
