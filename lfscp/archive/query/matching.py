"""Makes one SELECT of a query, and tests in Python for what SQL cannot decide exactly.

Rules: each key gives a condition that never loses a match and that an index can serve; where
it may hold too much (wildcards inside person names, several values in one attribute, numbers,
date-times with offsets, sequences), a residual test on the row decides. Attributes of a patient
are those that each study has of it, so that a patient is found by what any study says. Statements
are portable; only the wildcard operator depends on the dialect: SQLite's GLOB and everybody
else's LIKE are both case-sensitive.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from decimal import Decimal
from itertools import islice
from typing import Any, Final, cast

from sqlalchemy import (
    Column,
    ColumnElement,
    Select,
    Table,
    and_,
    false,
    func,
    literal_column,
    or_,
    select,
    union,
)

from lfscp.archive.index.tables import schema
from lfscp.archive.index.tables.dialects import unindexed
from lfscp.archive.query import computed
from lfscp.archive.query.keys import (
    Items,
    Match,
    Name,
    Names,
    Numbers,
    Texts,
    Universal,
    alternatives,
)
from lfscp.archive.query.matched_objects import ObjectRow
from lfscp.archive.query.query import Key, Query
from lfscp.dicom.values.attributes import LEVELS, Attribute, Level
from lfscp.dicom.values.temporal import FIRST, MomentSpan, Span

# SQLite takes 32,766 parameters, PostgreSQL 65,535.
MAX_BOUND_VALUES: Final = 10_000
MAX_BOUND_SPELLINGS: Final = 500  # of the numbers of one key, of which there may be a dozen
_LONG_TEXT: Final = 1_024  # characters; SQLite compares them with a pattern in one step
# A literal, not a parameter: a partial index with this condition serves it.
SEVERAL_GROUPS: Final[ColumnElement[str]] = literal_column("'%=%'")
EMPTY: Final[ColumnElement[str]] = literal_column("''")  # likewise
_MAX_INTEGER: Final = 12  # characters of an IS (PS3.5 table 6.2-1)
_PARENT: Final = {
    Level.STUDY: schema.study.c.patient_id_fk == schema.patient.c.id,
    Level.SERIES: schema.series.c.study_fk == schema.study.c.id,
    Level.IMAGE: schema.instance.c.series_fk == schema.series.c.id,
}
_ORDER: Final = tuple(schema.TABLES[level] for level in LEVELS)
_STUDIES: Final = LEVELS.index(Level.STUDY)
_TIME_OF_DATE: Final = {
    "StudyDate": "StudyTime",
    "SeriesDate": "SeriesTime",
    "ContentDate": "ContentTime",
    "AcquisitionDate": "AcquisitionTime",
    "PatientBirthDate": "PatientBirthTime",
    "PerformedProcedureStepStartDate": "PerformedProcedureStepStartTime",
}


Residuals = tuple[tuple[int, Callable[[str], bool]], ...]  # columns, and what tests each


@dataclass(frozen=True, slots=True)
class Condition:
    """One key's condition: what the database tests and whether that says it exactly."""

    sql: ColumnElement[bool] | None
    exact: bool = True


@dataclass(frozen=True, slots=True)
class Matching:
    """A query's statement: the columns of its keys first, then those of residual tests.

    Last come those of matched_objects.ObjectRow, when the query has object keys; at PATIENT level,
    the patient's key, by which the rows of one patient come one after another.
    """

    statement: Select[Any]
    residuals: Residuals


def build(query: Query, dialect: str) -> Matching:
    """Make the statement of a query.

    Args:
        query: see query.parse_query.
        dialect: SQLAlchemy's name of the database ("sqlite", "postgresql").
    Returns:
        Matching whose rows hold one column per key in the query's order, then one per residual.
        Without an order: rows come as the database finds them, so that they can be streamed.
        Patients have a row per study that matches, the newest first.
    Source: PS3.4 section C.2.2.2.
    """
    columns = returned_columns(query)
    conditions, tested = narrowed(query, dialect)
    residuals = [(len(columns) + at, accepts) for at, (_, accepts) in enumerate(tested)]
    columns += [column for column, _ in tested]
    if not columns:
        columns = [_ORDER[max(LEVELS.index(query.level), _STUDIES)].c.id]
    if query.object_keys:
        columns += [schema.instance.c[name] for name in ObjectRow._fields]
    statement = select(*columns).select_from(joined(query)).where(*conditions)
    if query.level is not Level.PATIENT:
        return Matching(statement, tuple(residuals))
    of_patient = schema.study.c.patient_id_fk
    # An expression to sort by leaves the index to the conditions; without any, it gives the order.
    order = of_patient + literal_column("0") if conditions else of_patient
    statement = statement.add_columns(of_patient.label("entity"))
    statement = statement.order_by(order.desc(), schema.study.c.id.desc())
    return Matching(statement, tuple(residuals))


def returned_columns(query: Query) -> list[ColumnElement[Any]]:
    """The column of each key, in the query's order."""
    return [_returned_column(key.attribute) for key in query.keys]


def narrowed(
    query: Query, dialect: str
) -> tuple[list[ColumnElement[bool]], list[tuple[Column[str], Callable[[str], bool]]]]:
    """What the database tests of each row, and the columns that are tested in Python, with how."""
    conditions: list[ColumnElement[bool]] = []
    tested: list[tuple[Column[str], Callable[[str], bool]]] = []
    combined = dict(_combined(query)) if query.combined_date_time else {}
    conditions += combined.values()
    for key in query.keys:
        if isinstance(key.match, Universal) or key.attribute.keyword in combined:
            continue
        condition = _condition(key, dialect, is_looked_for=_narrows(key, query))
        if condition.sql is not None:
            conditions.append(condition.sql)
        if not condition.exact:
            tested.append(_residual(key))
    return conditions, tested


def joined(query: Query) -> Any:
    """The level's table joined with those above, no further up than a key needs."""
    tables = [_table(key.attribute) for key in query.keys]
    bottom = max(LEVELS.index(query.level), _STUDIES)
    top = min((_ORDER.index(table) for table in tables), default=bottom)
    joined: Any = _ORDER[bottom]
    for index in range(bottom, top, -1):
        joined = joined.join(schema.TABLES[LEVELS[index - 1]], _PARENT[LEVELS[index]])
    return joined


def _table(attribute: Attribute) -> Table:
    """Where an attribute's values are; those of patients as each study has them."""
    if attribute.level is Level.PATIENT and attribute.keyword not in computed.EXPRESSION:
        return schema.study
    return schema.TABLES[attribute.level]


def _column(attribute: Attribute) -> Column[str]:
    return cast("Column[str]", _table(attribute).c[attribute.column])


def _returned_column(attribute: Attribute) -> ColumnElement[Any]:
    expression = computed.EXPRESSION.get(attribute.keyword)
    return _column(attribute) if expression is None else expression.label(attribute.column)


def _matched_column(attribute: Attribute) -> Column[str]:
    """The column that the key is compared with: a person name's search form."""
    return cast("Column[str]", _table(attribute).c[attribute.search_column or attribute.column])


def _residual(key: Key) -> tuple[Column[str], Callable[[str], bool]]:
    """What of a row is tested in Python, and how."""
    if isinstance(key.match, Names) and key.match.folded:
        return _column(key.attribute), key.match.accepts_folded
    if isinstance(key.match, Names) and key.match.written:
        return _column(key.attribute), key.match.accepts_written
    return _matched_column(key.attribute), key.match.accepts


def _narrows(key: Key, query: Query) -> bool:
    """Whether rows may be looked for by a key; others are only tested by it.

    Half of an archive may be of one modality, and SQLite does not know that.
    """
    others = (each for each in query.keys if each.attribute.keyword != "Modality")
    is_alone = all(isinstance(each.match, Universal) for each in others)
    return key.attribute.keyword != "Modality" or is_alone


def _condition(key: Key, dialect: str, *, is_looked_for: bool) -> Condition:
    attribute, match = key.attribute, key.match
    if attribute.keyword in computed.GATHERED and isinstance(match, Texts):
        texts = Texts(match.values, match.wildcards)
        return Condition(
            computed.gathered_condition(
                attribute.keyword, lambda column: _gathered(column, texts, dialect)
            )
        )
    if attribute.keyword in computed.EXPRESSION:
        return _counted(attribute, match)
    if isinstance(match, Names) and match.folded:
        return _fuzzy(attribute, match, dialect)
    column = _matched_column(attribute)
    tested = column if is_looked_for else unindexed(column)
    return _BY_KIND[type(match)](tested, match, dialect)


def _gathered(column: ColumnElement[str], texts: Texts, dialect: str) -> ColumnElement[bool]:
    """A test of another level's values, which no residual sees."""
    of_any_length = func.substr(column, 1, _LONG_TEXT) if texts.wildcards else column
    return _require(_texts(of_any_length, texts, dialect).sql)


def _require(sql: ColumnElement[bool] | None) -> ColumnElement[bool]:
    return false() if sql is None else sql


def _counted(attribute: Attribute, match: Match) -> Condition:
    if not isinstance(match, Numbers):
        return Condition(None)
    wanted = {int(value) for value in match.values if _is_integer(value)}
    return Condition(computed.EXPRESSION[attribute.keyword].in_(sorted(wanted)))


def _wildcard(column: ColumnElement[str], pattern: str, dialect: str) -> Condition:
    """A comparison with a pattern of * and ?; every other character stands for itself.

    SQLite cannot be interrupted inside a comparison: long texts with a pattern that may begin
    anywhere are left to the residual.
    """
    like = _like(column, pattern, dialect)
    begin, _, rest = pattern.partition("*")
    if dialect != "sqlite" or not rest.strip("*"):
        return Condition(like)
    fits = or_(func.length(column) > _LONG_TEXT, like)
    begins = [_like(column, f"{begin}*", dialect)] if begin else []  # which an index serves
    return Condition(and_(*begins, fits), exact=False)


def _like(column: ColumnElement[str], pattern: str, dialect: str) -> ColumnElement[bool]:
    if dialect == "sqlite":
        return column.op("GLOB", is_comparison=True)(pattern.replace("[", "[[]"))
    escaped = re.sub(r"([\\%_])", r"\\\1", pattern)
    return column.like(escaped.replace("*", "%").replace("?", "_"))


def _texts(column: ColumnElement[str], match: Texts, dialect: str) -> Condition:
    if len(match.values) > MAX_BOUND_VALUES:
        return Condition(column.between(min(match.values), max(match.values)), exact=False)
    exact, patterns = match.exact_values, list(match.patterns)
    tests: list[ColumnElement[bool]] = []
    if exact:
        tests.append(column == exact[0] if len(exact) == 1 else column.in_(exact))
    if match.several:
        literal = [value.replace("*", "?") for value in exact]  # a sign in it may be anything
        patterns += [f"*{value}*" for value in (*literal, *patterns)]
    compared = [_wildcard(column, pattern, dialect) for pattern in patterns]
    tests += [_require(each.sql) for each in compared]
    return Condition(or_(*tests), all(each.exact for each in compared) and not match.several)


def _span(column: ColumnElement[str], match: Span, _: str) -> Condition:
    return Condition(column.between(match.low, match.high))


def _moments(column: ColumnElement[str], match: MomentSpan, _: str) -> Condition:
    rough = match.rough()
    return Condition(column.between(rough.low, rough.high), exact=False)


def _numbers(column: ColumnElement[str], match: Numbers, _: str) -> Condition:
    """Whole numbers by every spelling an IS allows, so that an index serves; else by residual.

    Many numbers are left to the residual as well.
    """
    if match.whole:
        each = (spelling for value in match.values for spelling in _spellings(value))
        spellings = list(islice(each, MAX_BOUND_SPELLINGS + 1))
        if len(spellings) <= MAX_BOUND_SPELLINGS:
            return Condition(column.in_(spellings))
    return Condition(column != "", exact=False)


def _is_integer(value: Decimal) -> bool:
    """Whether an IS can hold it."""
    return value.adjusted() < _MAX_INTEGER and value == value.to_integral_value()


def _spellings(value: Decimal) -> Iterator[str]:
    if not _is_integer(value):
        return
    digits = str(abs(int(value)))
    signs = ("", "+", "-") if value == 0 else ("-",) if value < 0 else ("", "+")
    for sign in signs:
        for width in range(len(digits), _MAX_INTEGER + 1 - len(sign)):
            yield sign + digits.zfill(width)


def _names(column: ColumnElement[str], match: Names, dialect: str) -> Condition:
    conditions = [_name(column, name, match.several, dialect) for name in match.names]
    return Condition(
        or_(*(_require(condition.sql) for condition in conditions)),
        exact=all(condition.exact for condition in conditions),
    )


def _name(column: ColumnElement[str], name: Name, several: bool, dialect: str) -> Condition:
    """Names with the pattern's literal start in the first group or a later one.

    The first test is a range of the index, the second reads only the few names with several
    groups. Without a literal start, or in a column without an index, names are read one by one.
    """
    starting = [] if several else _starting_so(column, name, dialect)
    if not starting:
        held = [_wildcard(column, _held(group), dialect).sql for group in name.groups if group]
        return Condition(and_(column != "", *map(_require, held)), exact=False)
    key = cast("Column[str]", column).table.c.id
    is_start = name.pattern == f"{_literal_start(name.pattern)}*"
    return Condition(key.in_(union(*starting)), exact=is_start)


def _starting_so(column: ColumnElement[str], name: Name, dialect: str) -> list[Select[Any]]:
    """The keys of names that begin, in any group, as the pattern does; none if no index helps."""
    start = _literal_start(name.pattern)
    table = cast("Column[str]", column).table
    if len(name.groups) > 1 or not start or not _begins_an_index(column, table):
        return []
    first, later = (_like(column, each, dialect) for each in (f"{start}*", f"*={start}*"))
    rest: list[ColumnElement[bool]] = []  # so that fewer names are left to the residual
    if name.pattern not in (start, f"{start}*"):
        rest = [_require(_wildcard(column, _held(name.groups[0]), dialect).sql)]
    return [
        select(table.c.id).where(first, *rest),
        select(table.c.id).where(column.like(SEVERAL_GROUPS), later, *rest),
    ]


def _fuzzy(attribute: Attribute, match: Names, dialect: str) -> Condition:
    """Names in ASCII by their search form, the others by their folded one, each by its index."""
    search = _matched_column(attribute)
    if attribute.folded_column is None:
        return Condition(search != "", exact=False)
    table = _table(attribute)
    folded = table.c[attribute.folded_column]
    found = [
        select(table.c.id).where(
            folded != EMPTY,
            or_(
                *(
                    and_(*(_like(folded, _held(group), dialect) for group in name.groups if group))
                    for name in match.folded
                )
            ),
        )
    ]
    for name in dict.fromkeys((*match.names, *match.folded)):
        starting = [] if match.several else _starting_so(search, name, dialect)
        plain = _require(_name(search, name, match.several, dialect).sql)
        found += starting or [select(table.c.id).where(plain)]
    return Condition(table.c.id.in_(union(*found)), exact=False)


def _held(group: str) -> str:
    """What every value holds that the group's pattern fits; one character may be folded to two."""
    return re.sub(r"[*?]+", "*", f"*{alternatives(group)[-1]}*")


def _begins_an_index(column: ColumnElement[str], table: Table) -> bool:
    return any(index.columns[0] is column for index in table.indexes)


def _literal_start(pattern: str) -> str:
    for at, sign in enumerate(pattern):
        if sign in "*?":
            return pattern[:at].rstrip("^")
    return pattern


def _items(column: ColumnElement[str], _match: Items, _: str) -> Condition:
    return Condition(column != "", exact=False)


_BY_KIND: Final[dict[type[Any], Callable[[Any, Any, str], Condition]]] = {
    Texts: _texts,
    Span: _span,
    MomentSpan: _moments,
    Numbers: _numbers,
    Names: _names,
    Items: _items,
}


def _combined(query: Query) -> Iterator[tuple[str, ColumnElement[bool]]]:
    """Each date key with its time key as one span (PS3.4 section C.2.2.2.5, combined)."""
    by_keyword = {key.attribute.keyword: key for key in query.keys}
    for date_keyword, time_keyword in _TIME_OF_DATE.items():
        date_key, time_key = by_keyword.get(date_keyword), by_keyword.get(time_keyword)
        if date_key is None or time_key is None:
            continue
        dates, times = date_key.match, time_key.match
        if isinstance(dates, Span) and isinstance(times, Span):
            day, time = _column(date_key.attribute), _column(time_key.attribute)
            yield date_keyword, _span(day, dates, "").sql  # type: ignore[misc]
            yield (
                time_keyword,
                and_(
                    or_(day > dates.low, time >= times.low),
                    or_(day < dates.high, time.between(FIRST, times.high)),
                ),
            )
