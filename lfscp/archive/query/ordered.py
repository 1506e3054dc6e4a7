"""Finds what matches a query in an order that lasts, and reads the rows by their keys.

A reader that pages through its matches needs an order that does not change while objects arrive.
Rules: studies come newest first, by date and time; series and instances in the order of their
arrival, so that new ones come last. First all keys are found, which are small; then rows are read
by key, some at a time. What is deleted meanwhile is left out.

An object key of a study or series is read from its first object.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import islice
from typing import Any, Final, NamedTuple

from sqlalchemy import ColumnElement, Select, func, literal_column, select

from lfscp.archive.index.database.interruption import Interruption
from lfscp.archive.index.database.statements import compiled
from lfscp.archive.index.index import Index
from lfscp.archive.index.tables.schema import TABLES, instance, series, study
from lfscp.archive.query.find import tested, with_attributes
from lfscp.archive.query.keys import Universal
from lfscp.archive.query.matched_objects import ObjectRow
from lfscp.archive.query.matching import Matching, joined, narrowed, returned_columns
from lfscp.archive.query.prepared import PreparedQueries
from lfscp.archive.query.query import Query
from lfscp.archive.store.object_store import ObjectStore
from lfscp.dicom.values.attributes import Level

# What narrows studies down no better than their order does, which has an index.
_LEFT_TO_ORDER: Final = frozenset({"StudyDate", "StudyTime", "ModalitiesInStudy"})
_KEYS: Final = "0 /* keys */"  # stands in the SQL for the keys of the rows
_KEPT_STATEMENTS: Final = 256


class Found(NamedTuple):
    """One match.

    Args:
        row: a column for each key of the query, then an ObjectAttribute for each object key.
        is_whole: whether its object could be read, if that was asked for.
    """

    row: Sequence[Any]
    is_whole: bool


class OrderedQueries:
    """The queries in order of one archive. Any thread may call any method."""

    def __init__(self, index: Index, files: ObjectStore) -> None:
        self._index = index
        self._files = files
        self._prepared = PreparedQueries(index.dialect, build_keys)
        self._selects: dict[tuple[Any, ...], tuple[str, list[Any]]] = {}

    def keys(
        self, query: Query, offset: int, limit: int, interruption: Interruption
    ) -> Sequence[int]:
        """The keys of the matches from one on, in their order."""
        asked = tuple([key for key in query.keys if not isinstance(key.match, Universal)])
        query = replace(query, keys=asked, object_keys=())
        prepared, matching = self._prepared.statement(query), None
        if prepared is None:
            matching = build_keys(query, self._index.dialect.name)
            prepared = compiled(matching.statement, self._index.dialect)
        sql, values = prepared
        with self._index.reading(interruption) as cursor:
            if matching is None or not matching.residuals:
                rows = cursor.execute(f"{sql} LIMIT {int(limit)} OFFSET {int(offset)}", values)
                return array("q", [row[0] for row in rows])
            passed = tested(iter(cursor.execute(sql, values)), matching.residuals, interruption)
            return array("q", [row[0] for row in islice(passed, offset, offset + limit)])

    def rows(
        self, query: Query, keys: Sequence[int], interruption: Interruption
    ) -> Iterator[Found]:
        """The rows with these keys, in their order."""
        if not keys:
            return
        made, values = self._select(query)
        sql = made.replace(_KEYS, ",".join(map(str, keys)))
        with self._index.reading(interruption) as cursor:
            by_key = {row[0]: row[1:] for row in cursor.execute(sql, values)}
        rows = (by_key[key] for key in keys if key in by_key)
        if not query.object_keys:
            yield from (Found(row, is_whole=True) for row in rows)
            return
        for row, is_whole in with_attributes(rows, query, self._files, interruption):
            yield Found(row, is_whole)

    def _select(self, query: Query) -> tuple[str, list[Any]]:
        tags = tuple([key.attribute.tag for key in query.keys])
        shape = (query.level, tags, bool(query.object_keys))
        made = self._selects.get(shape)
        if made is None:
            if len(self._selects) >= _KEPT_STATEMENTS:
                self._selects.clear()
            made = self._selects[shape] = compiled(_rows(query), self._index.dialect)
        return made


def build_keys(query: Query, dialect: str) -> Matching:
    """The statement that finds keys in their order: the key, then the columns of residual tests.

    An expression to sort by leaves the indexes to the conditions; without any that narrow much,
    the index gives the order.
    """
    conditions, tests = narrowed(query, dialect)
    is_left = query.level is Level.STUDY and all(
        key.attribute.keyword in _LEFT_TO_ORDER for key in query.keys
    )
    statement = select(TABLES[query.level].c.id, *(column for column, _ in tests))
    statement = statement.select_from(joined(query)).where(*conditions)
    statement = statement.order_by(*_order(query.level, by_index=is_left or not conditions))
    return Matching(statement, tuple((at, accepts) for at, (_, accepts) in enumerate(tests, 1)))


def _order(level: Level, *, by_index: bool) -> list[ColumnElement[Any]]:
    if level is not Level.STUDY:
        key = TABLES[level].c.id
        return [key if by_index else key + literal_column("0")]
    key, date, time = study.c.id, study.c.study_date, study.c.study_time
    if by_index:
        return [date.desc(), time.desc(), key.desc()]
    empty: ColumnElement[str] = literal_column("''")
    return [date.concat(empty).desc(), time.desc(), key.desc()]


def _rows(query: Query) -> Select[Any]:
    """The statement that reads rows by key: the key, the columns, those of the object."""
    table = TABLES[query.level]
    columns, source = returned_columns(query), joined(query)
    if query.object_keys:
        columns += [instance.c[name] for name in ObjectRow._fields]
        if query.level is not Level.IMAGE:
            source = source.join(instance, instance.c.id == _first_instance(query.level))
    statement = select(table.c.id, *columns).select_from(source)
    wanted: ColumnElement[int] = literal_column(_KEYS)
    return statement.where(table.c.id.in_([wanted]))


def _first_instance(level: Level) -> Any:
    if level is Level.SERIES:
        first = select(func.min(instance.c.id)).where(instance.c.series_fk == series.c.id)
        return first.correlate(series).scalar_subquery()
    other = series.alias()
    first = select(func.min(instance.c.id)).join(other, instance.c.series_fk == other.c.id)
    return first.where(other.c.study_fk == study.c.id).correlate(study).scalar_subquery()
