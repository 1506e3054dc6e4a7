"""Matches one key of a query with one stored value (PS3.4 C.2.2.2).

Rules: pure; text in, yes or no out. The SELECT of matching.py narrows the rows down. What
SQL cannot test exactly, `accepts` here tests. Stored values
are text without padding, several values joined by a backslash, sequences JSON text.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from functools import cached_property
from typing import Final, Protocol

from lfscp.dicom.values.folded_names import folded_forms, forms_of
from lfscp.dicom.values.person_names import (
    GROUP_DELIMITER,
    VALUE_DELIMITER,
    search_form,
    written_form,
)

WILDCARD_VRS: Final = frozenset({"AE", "CS", "LO", "LT", "PN", "SH", "ST", "UC", "UR", "UT"})
_WILDCARDS: Final = re.compile(r"[*?]")
_AT_ONCE: Final = 500_000  # characters of a value times those of a pattern: a millisecond


class Match(Protocol):
    """The condition of one key."""

    def accepts(self, stored: str) -> bool: ...


@dataclass(frozen=True, slots=True)
class Universal:
    """Zero length, or nothing but asterisks: everything matches, also an absent value."""

    def accepts(self, stored: str) -> bool:  # noqa: ARG002 - the protocol's signature
        return True


UNIVERSAL: Final = Universal()


def has_wildcard(text: str) -> bool:
    """Whether an asterisk or a question mark stands in the text."""
    return _WILDCARDS.search(text) is not None


def _expression(piece: str) -> str:
    return "".join("." if sign == "?" else re.escape(sign) for sign in piece)


def wildcard_expression(pattern: str) -> re.Pattern[str]:
    """A regular expression for a wildcard pattern, in time linear in the value's length.

    Atomic groups let each piece between asterisks stay where it was first found, so that
    a hostile pattern of many asterisks cannot make matching explode.
    """
    first, *rest = map(_expression, re.split(r"\*+", pattern))
    if not rest:
        return re.compile(first, re.DOTALL)
    middle = "".join(f"(?>.*?{piece})" for piece in rest[:-1])
    return re.compile(f"{first}{middle}.*{rest[-1]}", re.DOTALL)


class WildcardPattern:
    """A pattern of asterisks and question marks, compared in time linear in the value's length.

    No comparison of long texts is one call of the expression engine, which would keep all other
    threads waiting.
    """

    def __init__(self, pattern: str) -> None:
        self._pattern = pattern
        self._whole = wildcard_expression(pattern)

    @cached_property
    def _split(self) -> list[tuple[int, re.Pattern[str]]]:
        """The pieces between asterisks: how many characters each fits, and its expression."""
        pieces = re.split(r"\*+", self._pattern)
        return [(len(piece), re.compile(_expression(piece), re.DOTALL)) for piece in pieces]

    def fits(self, value: str) -> bool:
        """Whether all of the value fits the pattern."""
        if len(value) * len(self._pattern) <= _AT_ONCE:
            return self._whole.fullmatch(value) is not None
        (at, first), *middle = self._split
        if not middle:
            return first.fullmatch(value) is not None
        length, last = middle.pop()
        end = len(value) - length
        if end < at or not (first.match(value) and last.fullmatch(value, end)):
            return False
        for length, expression in middle:
            at = _search(value, at, end, length, expression)
            if at < 0:
                return False
        return True


def _search(value: str, at: int, end: int, length: int, expression: re.Pattern[str]) -> int:
    """Where the first place that fits ends; -1 when there is none."""
    step = max(1, _AT_ONCE // max(1, length))
    for begin in range(at, end - length + 1, step):
        found = expression.search(value, begin, min(end, begin + step + length - 1))
        if found is not None:
            return found.end()
    return -1


@dataclass(frozen=True)
class Texts:
    """Any of the values, each exact or (`wildcards`) a pattern; case counts."""

    values: tuple[str, ...]
    wildcards: bool = False
    several: bool = False  # the stored attribute may hold several values

    @cached_property
    def _exact(self) -> frozenset[str]:
        return frozenset(self.exact_values)

    @property
    def exact_values(self) -> tuple[str, ...]:
        """The values without wildcards."""
        return tuple(v for v in self.values if not (self.wildcards and has_wildcard(v)))

    @property
    def patterns(self) -> tuple[str, ...]:
        """The values with wildcards."""
        return tuple(v for v in self.values if self.wildcards and has_wildcard(v))

    @cached_property
    def _expressions(self) -> tuple[WildcardPattern, ...]:
        return tuple(WildcardPattern(pattern) for pattern in self.patterns)

    def accepts(self, stored: str) -> bool:
        if not self.several:
            return self._accepts_one(stored)
        values = stored.split(VALUE_DELIMITER)
        return any(self._accepts_one(value.strip(" ")) for value in values)

    def _accepts_one(self, value: str) -> bool:
        if not value:
            return False
        return value in self._exact or any(e.fits(value) for e in self._expressions)


@dataclass(frozen=True)
class Name:
    """A person name pattern in search form; see person_names."""

    pattern: str

    @cached_property
    def groups(self) -> tuple[str, ...]:
        """The pattern's component groups."""
        return tuple(self.pattern.split(GROUP_DELIMITER))

    @cached_property
    def _expressions(self) -> tuple[tuple[WildcardPattern, ...], ...]:
        return tuple(
            tuple(WildcardPattern(text) for text in alternatives(group)) for group in self.groups
        )

    def accepts(self, stored: str) -> bool:
        groups = stored.split(GROUP_DELIMITER)
        if len(self.groups) == 1:
            return any(group and self._fits(0, group) for group in groups)
        groups += [""] * (len(self.groups) - len(groups))
        return all(
            not wanted or self._fits(place, groups[place])
            for place, wanted in enumerate(self.groups)
        )

    def _fits(self, place: int, group: str) -> bool:
        return any(expression.fits(group) for expression in self._expressions[place])


def alternatives(group: str) -> tuple[str, ...]:
    """The ways to read a group's pattern: `smith^*` also means `smith`, stored without `^`."""
    base = group
    while base.endswith("^*"):
        base = base[:-2].rstrip("^")
    return (group,) if base == group else (group, base)


@dataclass(frozen=True)
class Names:
    """Any of several name patterns."""

    names: tuple[Name, ...]
    several: bool = False  # the stored attribute may hold several names
    written: tuple[Name, ...] = ()  # as `written_form` has them, when there is a question mark
    folded: tuple[Name, ...] = ()  # without accents, when matching is fuzzy

    @classmethod
    def of(cls, text: str, *, several: bool = False, fuzzy: bool = False) -> Names:
        """Read a PN key; several values are joined by backslashes."""
        written = _patterns(written_form(text)) if "?" in text else ()
        forms = folded_forms(text) if fuzzy else ()
        folded = tuple(name for form in forms for name in _patterns(form))
        return cls(_patterns(search_form(text)), several, written, folded)

    def accepts(self, stored: str) -> bool:
        return self._accepts(self.names, stored)

    def accepts_written(self, stored: str) -> bool:
        """Whether a name as it was stored fits, its characters counted as they were written."""
        return self.accepts(search_form(stored)) or (
            self._accepts(self.written, written_form(stored))
        )

    def accepts_folded(self, stored: str) -> bool:
        """Whether a name as it was stored fits, or fits without its accents."""
        form = search_form(stored)
        if self.accepts(form) or any(self._accepts(self.folded, each) for each in forms_of(form)):
            return True
        return bool(self.written) and self._accepts(self.written, written_form(stored))

    def _accepts(self, names: tuple[Name, ...], stored: str) -> bool:
        values = stored.split(VALUE_DELIMITER) if self.several else (stored,)
        return any(name.accepts(value) for name in names for value in values if value)


def _patterns(names: str) -> tuple[Name, ...]:
    values = names.split(VALUE_DELIMITER)
    return tuple(Name(re.sub(r"\*+", "*", value)) for value in values if value)


@dataclass(frozen=True)
class Numbers:
    """Any of the numbers, compared by value: 7 is 007 and, unless `whole`, 7.0."""

    values: tuple[Decimal, ...]
    whole: bool = True  # the stored attribute holds whole numbers

    @classmethod
    def of(cls, text: str, *, whole: bool) -> Numbers:
        """Read an IS, US (whole) or DS key.

        Raises:
            ValueError: a value is no number.
        """
        try:
            values = tuple(Decimal(value.strip()) for value in text.split(VALUE_DELIMITER))
        except InvalidOperation:
            raise ValueError("expected a number") from None
        if not all(value.is_finite() for value in values):
            raise ValueError("expected a number")
        return cls(values, whole)

    @cached_property
    def _wanted(self) -> frozenset[Decimal]:
        return frozenset(self.values)

    def accepts(self, stored: str) -> bool:
        return any(self._accepts_one(text) for text in stored.split(VALUE_DELIMITER))

    def _accepts_one(self, text: str) -> bool:
        try:
            return Decimal(text.strip()) in self._wanted
        except (InvalidOperation, TypeError):  # a signalling NaN has no hash
            return False


@dataclass(frozen=True)
class Items:
    """A sequence key: one item whose keys must all fit one and the same stored item."""

    keys: tuple[tuple[str, Match], ...]

    def accepts(self, stored: str) -> bool:
        return any(self.accepts_item(item) for item in stored_items(stored))

    def accepts_item(self, item: dict[str, str]) -> bool:
        """Whether all keys fit this item."""
        return all(match.accepts(item.get(keyword, "")) for keyword, match in self.keys)


def stored_items(stored: str) -> list[dict[str, str]]:
    """The items of a sequence kept as JSON text; none when absent, or cut by an older version."""
    try:
        return json.loads(stored) if stored else []
    except ValueError:
        return []
