"""Reads dates, times and date-times of a query as bounds for stored values.

Rules: DA and TM bounds are text, so that the database compares them with the stored text:
a lower bound is written in its shortest form ("1030" for 10:30:00), an upper bound is open
to everything more precise ("1030~" holds 103059.999). DT values may carry an offset from
UTC, so they are compared as microseconds; a value without an offset is taken to be in the
offset of the value it is compared with. An absent (empty) value is never inside bounds.
Source: PS3.4 section C.2.2.2.5, PS3.5 section 6.2.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Final

FIRST: Final = "0"  # below every stored value, above the empty text
LAST: Final = "~"  # above every digit

_DATE: Final = re.compile(r"(\d{4})(0[1-9]|1[0-2])(0[1-9]|[12]\d|3[01])")
_ACR_DATE: Final = re.compile(r"(\d{4})\.(\d\d)\.(\d\d)")  # before DICOM 3.0
_TIME: Final = re.compile(r"([01]\d|2[0-3])(?:([0-5]\d)(?:([0-5]\d|60)(?:\.(\d{1,6}))?)?)?")
_ACR_TIME: Final = re.compile(r"\d\d:\d\d(:\d\d(\.\d{1,6})?)?")
_OFFSET: Final = r"[+-](?:0\d|1[0-4])[0-5]\d"
_DATE_TIME: Final = re.compile(
    r"(?P<year>\d{4})(?:(?P<month>\d\d)(?:(?P<day>\d\d)(?:(?P<hour>\d\d)(?:(?P<minute>\d\d)"
    rf"(?:(?P<second>\d\d)(?:\.(?P<fraction>\d{{1,6}}))?)?)?)?)?)?(?P<offset>{_OFFSET})?"
)
_ANY_DATE_TIME: Final = rf"\d{{4,14}}(?:\.\d{{1,6}})?(?:{_OFFSET})?"
_DATE_TIME_RANGE: Final = re.compile(rf"({_ANY_DATE_TIME})?-({_ANY_DATE_TIME})?")
_DAY_US: Final = 86_400_000_000


@dataclass(frozen=True, slots=True)
class Span:
    """Text bounds of DA or TM, both inclusive."""

    low: str
    high: str

    def accepts(self, stored: str) -> bool:
        return self.low <= stored <= self.high


def _ends(text: str) -> tuple[str, str]:
    """Both ends of a range, or the single value twice; an open end is empty."""
    if "-" not in text:
        return text.strip(), text.strip()
    low, _, high = (part.strip() for part in text.partition("-"))
    if not low and not high:
        raise ValueError("a range needs at least one end")
    return low, high


def without_delimiters(text: str, vr: str) -> str:
    """A DA or TM value as DICOM 3.0 writes it, when it is written as ACR-NEMA 2.0 did.

    YYYY.MM.DD becomes YYYYMMDD, HH:MM:SS becomes HHMMSS; anything else stays as it is.
    Source: PS3.5 table 6.2-1, notes to DA and TM.
    """
    sign, layout = (".", _ACR_DATE) if vr == "DA" else (":", _ACR_TIME)
    return text.replace(sign, "") if sign in text and layout.fullmatch(text) else text


def _plain_date(text: str) -> str:
    plain = without_delimiters(text, "DA")
    if not _DATE.fullmatch(plain):
        raise ValueError("expected a date YYYYMMDD or a range of dates")
    return plain


def date_span(text: str) -> Span:
    """Read a DA key: a date or a range with one or two ends.

    Raises:
        ValueError: not a date YYYYMMDD (or YYYY.MM.DD) and not a range of them.
    """
    low, high = _ends(text)
    return Span(_plain_date(low) if low else FIRST, _plain_date(high) if high else LAST)


def _plain_time(text: str) -> str:
    plain = without_delimiters(text, "TM")
    if not _TIME.fullmatch(plain):
        raise ValueError("expected a time HHMMSS.FFFFFF, also shortened, or a range of times")
    return plain


def _shortest_time(time: str) -> str:
    """The shortest text of the same time of day: 10:00:00.0 is 10."""
    clock, _, fraction = time.partition(".")
    fraction = fraction.rstrip("0")
    if fraction:
        return f"{clock}.{fraction}"
    while len(clock) > 2 and clock.endswith("00"):
        clock = clock[:-2]
    return clock


def time_span(text: str) -> Span:
    """Read a TM key: a time (all of the minute when seconds are left out) or a range.

    Raises:
        ValueError: not a time HH[MM[SS[.F]]] and not a range of them.
    """
    low, high = _ends(text)
    return Span(
        _shortest_time(_plain_time(low)) if low else FIRST,
        _plain_time(high) + LAST if high else LAST,
    )


@dataclass(frozen=True, slots=True)
class Moment:
    """A DT value: its first and last microsecond on the wall clock, and its offset from UTC."""

    first_us: int
    last_us: int
    offset_us: int | None

    def shift_to(self, other: Moment) -> int:
        """What to add to this wall clock to read it on the other's."""
        if self.offset_us is None or other.offset_us is None:
            return 0
        return other.offset_us - self.offset_us


def _offset_us(text: str | None) -> int | None:
    if text is None:
        return None
    minutes = int(text[1:3]) * 60 + int(text[3:5])
    return (-minutes if text[0] == "-" else minutes) * 60_000_000


def _next_month(year: int, month: int) -> int:
    """The ordinal of the first day of the month after."""
    if (year, month) == (9999, 12):
        return date.max.toordinal() + 1
    return date(year + month // 12, month % 12 + 1, 1).toordinal()


def _days(year: str, month: str | None, day: str | None) -> tuple[int, int]:
    """First day and the day after the last, as ordinals."""
    if month is None:
        return date(int(year), 1, 1).toordinal(), _next_month(int(year), 12)
    if day is None:
        return date(int(year), int(month), 1).toordinal(), _next_month(int(year), int(month))
    ordinal = date(int(year), int(month), int(day)).toordinal()
    return ordinal, ordinal + 1


def moment(text: str) -> Moment:
    """Read one DT value of any precision.

    Raises:
        ValueError: not YYYY[MM[DD[HH[MM[SS[.F]]]]]] with an optional offset +HHMM or -HHMM.
    """
    match = _DATE_TIME.fullmatch(text)
    if match is None:
        raise ValueError("expected a date-time YYYYMMDDHHMMSS.FFFFFF&ZZXX, also shortened")
    part = match.groupdict()
    first_day, end_day = _days(part["year"], part["month"], part["day"])
    offset = _offset_us(part["offset"])
    if part["hour"] is None:
        return Moment(first_day * _DAY_US, end_day * _DAY_US - 1, offset)
    start, length = _clock_us(part)
    start += first_day * _DAY_US
    return Moment(start, start + length - 1, offset)


def _clock_us(part: dict[str, str | None]) -> tuple[int, int]:
    """Time of day and how long it lasts at its precision, in microseconds."""
    start, length = 0, _DAY_US
    for name, limit, unit_us in (
        ("hour", 24, 3_600_000_000),
        ("minute", 60, 60_000_000),
        ("second", 61, 1_000_000),
    ):
        digits = part[name]
        if digits is None:
            return start, length
        if int(digits) >= limit:
            raise ValueError(f"{name} {digits} is out of range")
        start, length = start + int(digits) * unit_us, unit_us
    fraction = part["fraction"]
    if fraction is None:
        return start, length
    return start + int(fraction.ljust(6, "0")), int(10 ** (6 - len(fraction)))


@dataclass(frozen=True, slots=True)
class MomentSpan:
    """A DT key: one or two ends, each inclusive to its precision; None is open."""

    low: Moment | None
    high: Moment | None

    def accepts(self, stored: str) -> bool:
        """Whether the stored DT value begins inside; what is no DT value does not."""
        try:
            value = moment(stored)
        except ValueError:
            return False
        if self.low is not None:
            begins = value.first_us + value.shift_to(self.low)
            if begins < self.low.first_us:
                return False
        if self.high is not None:
            begins = value.first_us + value.shift_to(self.high)
            if begins > self.high.last_us:
                return False
        return True

    def rough(self) -> Span:
        """Text bounds that hold everything accepted: whole days, two days wider for offsets."""
        low = FIRST if self.low is None else _day_text(self.low.first_us // _DAY_US - 2, FIRST)
        high = LAST if self.high is None else _day_text(self.high.last_us // _DAY_US + 2, LAST)
        return Span(low, high if high == LAST else high + LAST)


def _day_text(ordinal: int, beyond: str) -> str:
    if not date.min.toordinal() <= ordinal <= date.max.toordinal():
        return beyond
    # Not strftime: it does not pad years below 1000.
    return (date.min + timedelta(days=ordinal - 1)).isoformat().replace("-", "")


def date_time_span(text: str) -> MomentSpan:
    """Read a DT key: a date-time or a range; `-0500` after a date-time is an offset, no range.

    Raises:
        ValueError: not a date-time and not a range of them.
    """
    if _DATE_TIME.fullmatch(text):
        value = moment(text)
        return MomentSpan(value, value)
    ends = _DATE_TIME_RANGE.fullmatch(text)
    if ends is None or not (ends[1] or ends[2]):
        raise ValueError("expected a date-time YYYYMMDDHHMMSS.FFFFFF&ZZXX or a range of them")
    return MomentSpan(moment(ends[1]) if ends[1] else None, moment(ends[2]) if ends[2] else None)
