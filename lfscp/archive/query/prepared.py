"""The SQL of frequent queries, compiled once per shape and run through the driver itself.

Rules: a shape is what makes the text of a statement: level, keys, kinds of matching. Queries whose
keys ask for everything, one exact value or a range have one; all others go the long way through
SQLAlchemy, which costs several times what SQLite needs to answer. The text comes from
matching.py in either case.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Final

from sqlalchemy import Dialect

from lfscp.archive.index.database.statements import compiled
from lfscp.archive.query.keys import UNIVERSAL, Match, Texts
from lfscp.archive.query.matching import Matching, build
from lfscp.archive.query.query import Key, Query
from lfscp.dicom.values.attributes import UNIQUE_KEY, Level
from lfscp.dicom.values.temporal import Span

_KEPT_STATEMENTS: Final = 256
_PLACE: Final = "\0value "  # no value of a key holds a NUL


@dataclass(frozen=True, slots=True)
class _Compiled:
    """SQL, and per parameter the place of its value in the query, or a constant."""

    sql: str
    parameters: tuple[tuple[int, Any], ...]


class PreparedQueries:
    """The statements compiled so far for one database. Any thread may call it.

    Args:
        make: makes the statement of a query.
    """

    def __init__(self, on: Dialect, make: Callable[[Query, str], Matching] = build) -> None:
        self._dialect = on
        self._make = make
        self._kept: dict[tuple[Any, ...], _Compiled | None] = {}

    def statement(self, query: Query) -> tuple[str, list[Any]] | None:
        """SQL with its parameters; the rows are those of `make`.

        Returns:
            None when the query has no shape to prepare, or rows need tests in Python.
        """
        kinds: list[Any] = [query.level, query.combined_date_time, bool(query.object_keys)]
        values: list[str] = []
        for key in query.keys:
            of_key = _values(key.match)
            if of_key is None:
                return None
            kinds += (key.attribute.tag, len(of_key))
            values += of_key
        shape = tuple(kinds)
        if shape not in self._kept:
            if len(self._kept) >= _KEPT_STATEMENTS:
                self._kept.clear()
            self._kept[shape] = self._compile(query)
        kept = self._kept.get(shape)
        if kept is None:
            return None
        found = [values[at] if at >= 0 else constant for at, constant in kept.parameters]
        return kept.sql, found

    def _compile(self, query: Query) -> _Compiled | None:
        """Compile it with marks instead of values, to see where each value goes."""
        places: list[str] = []
        keys: list[Key] = []
        for key in query.keys:
            marks = [f"{_PLACE}{len(places) + at}" for at in range(len(_values(key.match) or ()))]
            places += marks
            keys.append(replace(key, match=_marked(key.match, marks)))
        matching = self._make(replace(query, keys=tuple(keys)), self._dialect.name)
        if matching.residuals:
            return None
        sql, found = compiled(matching.statement, self._dialect)
        parameters = [
            (places.index(value), None) if value in places else (-1, value) for value in found
        ]
        return _Compiled(sql, tuple(parameters))


def finds_one(query: Query) -> bool:
    """Whether a query names one study, series or instance by its UID."""
    if query.level is Level.PATIENT:
        return False
    unique = UNIQUE_KEY[query.level].tag
    return any(
        key.attribute.tag == unique
        and isinstance(key.match, Texts)
        and _values(key.match) is not None
        for key in query.keys
    )


def _values(match: Match) -> tuple[str, ...] | None:
    """What a key's condition binds: nothing, one value, or two ends; None for any other kind."""
    if match is UNIVERSAL:
        return ()
    if isinstance(match, Span):
        return match.low, match.high
    if isinstance(match, Texts) and len(match.values) == 1 and not match.wildcards:
        return None if match.several else match.values
    return None


def _marked(match: Match, marks: list[str]) -> Match:
    if isinstance(match, Span):
        return Span(*marks)
    if isinstance(match, Texts):
        return Texts(tuple(marks))
    return match
