"""Compares one value of an attribute: equal, wildcard, range, list; by the rules of its VR.

Rules: a comparison is made once, when the configuration is read, and says then what cannot be.
Person names are compared without regard to case, as in queries; all other text exactly. Numbers are
compared as numbers, dates and times as in queries (PS3.4 section C.2.2.2.5), ages in days.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from functools import lru_cache
from typing import Final

from lfscp.dicom.reading.header import is_uid
from lfscp.dicom.values.person_names import search_form, written_form
from lfscp.dicom.values.temporal import date_span, date_time_span, time_span
from lfscp.rules.conditions.attributes import NUMBER_VRS

Test = Callable[[str], bool]
_TEMPORAL: Final = frozenset({"DA", "DT", "TM"})
_AGE: Final = re.compile(r"(\d{1,3})([DWMY])")
_DAYS: Final = {"D": Decimal(1), "W": Decimal(7), "M": Decimal("30.4375"), "Y": Decimal("365.25")}
RANGES: Final = NUMBER_VRS | _TEMPORAL | {"AS"}
_MAX_AE_TITLE: Final = 16


@dataclass(frozen=True, slots=True)
class Comparison:
    """A test of one value.

    Args:
        accepts: whether a value passes.
        words: what it wants, in words that follow "wanted".
    """

    accepts: Test
    words: str


def is_wildcard(text: str) -> bool:
    """Whether a text has a wildcard: * for any characters, ? for one."""
    return "*" in text or "?" in text


def equal(value: object, vr: str) -> Comparison:
    """One value, a wildcard if it has * or ?; of dates and times also a range as in queries.

    Raises:
        ValueError: it cannot be a value of that VR; the text says what was expected.
    """
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise ValueError("text, a number, a list or a table")  # noqa: TRY004 - of the configuration
    if isinstance(value, str) and not value:
        raise ValueError("a value; { present = false } stands for an absent or empty one")
    if vr == "address":
        return _network(str(value))
    if isinstance(value, str) and is_wildcard(value) and vr not in NUMBER_VRS:
        return wildcard(value, vr)
    return Comparison(_equal(value, vr), shown(value))


def wildcard(pattern: str, vr: str, *, ignore_case: bool = False) -> Comparison:
    """A text with * for any characters and ? for one."""
    fold = _folding(vr, ignore_case)
    wanted = written_form(pattern) if vr == "PN" else fold(pattern)
    expression = _expression(wanted)
    if vr == "PN":
        return Comparison(
            lambda value: any(expression.fullmatch(form) for form in _written(value)),
            shown(pattern),
        )
    return Comparison(lambda value: expression.fullmatch(fold(value)) is not None, shown(pattern))


def _expression(pattern: str) -> re.Pattern[str]:
    """The regular expression of a wildcard.

    What stands between two * is taken where it comes first, and never looked for again: so a long
    value cannot make it slow.
    """
    first, *rest = (
        "".join("." if sign == "?" else re.escape(sign) for sign in part)
        for part in pattern.split("*")
    )
    if not rest:
        return re.compile(first, re.DOTALL)
    *between, last = rest
    parts = "".join(f"(?>.*?{part})" for part in between if part)
    return re.compile(f"{first}{parts}.*{last}", re.DOTALL)


def exactly(value: object, vr: str, *, ignore_case: bool = False) -> Comparison:
    """One value in which * and ? stand for themselves."""
    if isinstance(value, bool) or not isinstance(value, str | int | float) or value == "":
        raise ValueError("text or a number")
    fold = _folding(vr, ignore_case)
    if ignore_case and vr != "PN":
        wanted = fold(str(value))
        return Comparison(lambda text: fold(text) == wanted, shown(value))
    return Comparison(_equal(value, vr), shown(value))


def one_of(comparisons: Sequence[Comparison]) -> Comparison:
    """Any of several."""
    tests = [each.accepts for each in comparisons]
    words = " or ".join(each.words for each in comparisons)
    return Comparison(lambda value: any(test(value) for test in tests), words)


def between(low: object, high: object, vr: str) -> Comparison:
    """A range of numbers, dates, times, date-times or ages; both ends belong to it.

    Args:
        low: None if it is open.
        high: None if it is open.
    """
    words = " ".join(
        [f"from {shown(low)}"] * (low is not None) + [f"to {shown(high)}"] * (high is not None)
    )
    if vr in _TEMPORAL:
        return Comparison(_span_test(low, high, vr), words)
    if vr not in RANGES:
        raise ValueError("no range: only numbers, dates, times and ages have an order")
    measure = _days if vr == "AS" else _number
    low_end = None if low is None else _measured(low, vr)
    high_end = None if high is None else _measured(high, vr)
    if low_end is not None and high_end is not None and low_end > high_end:
        raise ValueError("a range whose end is not below its beginning")

    def accepts(value: str) -> bool:
        found = measure(value)
        if found is None or (low_end is not None and found < low_end):
            return False
        return high_end is None or found <= high_end

    return Comparison(accepts, words)


def shown(value: object) -> str:
    """A value as messages show it."""
    return f'"{value}"' if isinstance(value, str) else str(value)


def _equal(value: object, vr: str) -> Test:
    if vr in NUMBER_VRS or vr == "AS":
        wanted_number = _measured(value, vr)
        measure = _days if vr == "AS" else _number
        return lambda text: measure(text) == wanted_number
    if not isinstance(value, str):
        raise ValueError("text in quotes")  # noqa: TRY004 - of the configuration
    if vr in _TEMPORAL:
        return _spanned(value, vr)
    if vr == "PN":
        wanted = search_form(value)
        return lambda text: wanted in _searched(text)
    if vr == "UI" and not is_uid(value):
        raise ValueError("a UID: digits and dots, at most 64 characters; or a wildcard with * or ?")
    if vr == "AE" and len(value.strip()) > _MAX_AE_TITLE:
        raise ValueError(f"an AE title of at most {_MAX_AE_TITLE} characters")
    stripped = value.strip(" ")
    if not stripped:
        raise ValueError("a value that is not only spaces")
    return stripped.__eq__


def _network(text: str) -> Comparison:
    try:
        network = ipaddress.ip_network(text, strict=False)
    except ValueError:
        raise ValueError("an address or a network, such as 10.0.0.7 or 10.1.0.0/16") from None

    @lru_cache(maxsize=1024)
    def accepts(address: str) -> bool:
        try:
            found = ipaddress.ip_address(address)
        except ValueError:
            return False
        mapped = getattr(found, "ipv4_mapped", None)
        return (mapped or found) in network

    return Comparison(accepts, text)


def _span_test(low: object, high: object, vr: str) -> Test:
    for end in (low, high):
        if end is not None and (not isinstance(end, str) or ("-" in end and vr != "DT")):
            raise ValueError(f"each end of a range as text of VR {vr}")
    test = _spanned(f"{low or ''}-{high or ''}", vr)
    if low is not None and high is not None and not _spanned(f"-{high}", vr)(str(low)):
        raise ValueError("a range whose end is not below its beginning")
    return test


def _spanned(text: str, vr: str) -> Test:
    if vr == "DT":
        return date_time_span(text).accepts
    return (date_span if vr == "DA" else time_span)(text).accepts


def _measured(value: object, vr: str) -> Decimal:
    found = _days(str(value)) if vr == "AS" else _number(str(value))
    if found is None:
        raise ValueError("an age such as 045Y, 006M or 010D" if vr == "AS" else "a number")
    return found


def _number(text: str) -> Decimal | None:
    try:
        number = Decimal(text)
    except InvalidOperation:
        return None
    return number if number.is_finite() else None


def _days(age: str) -> Decimal | None:
    match = _AGE.fullmatch(age)
    return None if match is None else int(match[1]) * _DAYS[match[2]]


def _folding(vr: str, ignore_case: bool) -> Callable[[str], str]:
    return str.casefold if ignore_case and vr != "PN" else str


def _searched(name: str) -> tuple[str, ...]:
    """A name and each of its groups, as names are compared."""
    form = search_form(name)
    return (form, *form.split("=")) if "=" in form else (form,)


def _written(name: str) -> tuple[str, ...]:
    form = written_form(name)
    return (form, *form.split("=")) if "=" in form else (form,)
