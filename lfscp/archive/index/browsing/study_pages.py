"""The list of studies for people: filtered, in several orders, a page at a time, and counted.

Rules: pages are cut by key in either direction, as those of `browse`. A count ends at MAX_COUNT, so
that it never reads everything. What a page costs depends little on the filter: see `StudySearch`.
"""

from __future__ import annotations

from functools import cache
from typing import Any, Final

from sqlalchemy import (
    Column,
    ColumnElement,
    CompoundSelect,
    Connection,
    Select,
    func,
    select,
    tuple_,
)

from lfscp.archive.index.browsing.browse import MAX_PAGE, STUDY_ROW, Cursor, Page, describe_studies
from lfscp.archive.index.browsing.study_filter import Condition, StudyFilter, conditions_of
from lfscp.archive.index.tables.dialects import among, unindexed
from lfscp.archive.index.tables.schema import series, study
from lfscp.archive.index.tables.study_tables import study_label, study_source

MAX_COUNT: Final = 10_000  # matches that are counted; more are "more than"
ORDERS: Final[dict[str, tuple[Column[Any], ...]]] = {
    "date": (study.c.study_date, study.c.study_time),
    "name": (study.c.patient_name_search,),
    "id": (study.c.patient_id,),
    "birth": (study.c.patient_birth_date,),
    "description": (study.c.study_description,),
    "accession": (study.c.accession_number,),
    "referrer": (study.c.referring_physician_name_search,),
    "received": (study.c.received_at,),
}
DEFAULT_ORDER: Final = "-date"
_FEW: Final = 2_000  # rows that are quickly sorted
_KEY: Final = "key_"  # before the names of a row's sort key


def require_order(order: str) -> str:
    """The name of an order: one of ORDERS, with `-` before it for the other direction.

    Raises:
        ValueError: it is none; lists them.
    """
    if order.removeprefix("-") not in ORDERS:
        known = ", ".join(ORDERS)
        raise ValueError(f"expected one of {known}, with - before it to begin at the end")
    return order


def cursor_types(order: str) -> tuple[type, ...]:
    """The types of the values of a cursor in this order."""
    return (*(column.type.python_type for column in ORDERS[order.removeprefix("-")]), int)


class StudySearch:
    """A search for studies in the index: gives pages of them, and counts them.

    It looks first for a condition that leaves few studies. They are tested by the other conditions
    and sorted. If there is none, studies are read in their order and tested: enough match soon.
    Of a condition that leaves some thousands, these are tested to count what matches.
    """

    def __init__(self, connection: Connection, wanted: StudyFilter | None = None) -> None:
        self._connection = connection
        self._tests = list(conditions_of(wanted or StudyFilter()))
        self._count_of_many: int | None = None  # if it was found on the way
        self._few = self._keys_of_few()

    def _keys_of_few(self) -> list[int] | None:
        """The keys of all studies that match, if these are few and easily found.

        If some thousands match, they are counted.
        """
        if not self._tests:
            return None
        least = self._least(_FEW) or self._least(MAX_COUNT)
        if least is not None:
            keys = self._tested(*least)
        elif len(self._tests) > 1:
            keys = self._keys(self._matching(blind=True), MAX_COUNT + 1)
        else:
            return None
        if len(keys) <= _FEW:
            return keys
        self._count_of_many = len(keys)
        return None

    def _least(self, most: int) -> tuple[Condition, list[int]] | None:
        """The condition that the fewest studies meet, and their keys; None if all leave too many.

        Words come last: they are looked for in a whole index, unless others leave few already.
        """
        least: tuple[Condition, list[int]] | None = None
        limit = most + 1
        for each in reversed(self._tests):
            keys = self._keys(each.keys, limit)
            if len(keys) < limit:
                least, limit = (each, keys), len(keys)
                if limit <= _FEW:
                    break
        return least

    def _tested(self, met: Condition, keys: list[int]) -> list[int]:
        """Those of the studies that meet one condition which meet the others."""
        tests = [each.blind_test for each in self._tests if each is not met]
        if not tests:
            return list(dict.fromkeys(keys))
        return self._keys(select(study.c.id).where(among(study.c.id, keys), *tests), len(keys))

    def _matching(self, *, blind: bool = False) -> Select[Any]:
        """The keys of all that match, in any order."""
        tests = [each.blind_test if blind else each.test for each in self._tests]
        return select(study.c.id).where(*tests)

    def _keys(self, statement: Select[Any] | CompoundSelect[Any], limit: int) -> list[int]:
        """Keys, some perhaps several times."""
        return list(self._connection.execute(statement.limit(limit)).scalars())

    def _count(self, keys: Select[Any] | CompoundSelect[Any], limit: int) -> int:
        counted = select(func.count()).select_from(keys.limit(limit).subquery())
        return int(self._connection.execute(counted).scalar_one())

    def count(self) -> int:
        """How many studies match; MAX_COUNT + 1 when there are more than MAX_COUNT."""
        if self._few is not None:
            return len(self._few)
        if self._count_of_many is not None:
            return self._count_of_many
        return self._count(self._matching(), MAX_COUNT + 1)

    def page(
        self,
        order: str = DEFAULT_ORDER,
        after: Cursor | None = None,
        before: Cursor | None = None,
        limit: int = 50,
    ) -> Page:
        """Some studies with their patient.

        Args:
            order: see `require_order`.
            after: the cursor of the page before; `before` that of the page behind.
            limit: rows of a page, at most MAX_PAGE.
        """
        columns = (*ORDERS[order.removeprefix("-")], study.c.id)
        cursor, backwards = (after, False) if before is None else (before, True)
        downwards = order.startswith("-") is not backwards
        key = self._key(columns)
        statement = STUDY_ROW.add_columns(*(each.label(f"{_KEY}{each.name}") for each in columns))
        statement = statement.where(*self._conditions(columns))
        statement = statement.order_by(*(each.desc() if downwards else each for each in key))
        if cursor is not None:
            here, there = tuple_(*key), tuple_(*cursor)
            statement = statement.where(here < there if downwards else here > there)
        size = max(1, min(limit, MAX_PAGE))
        rows = self._connection.execute(statement.limit(size + 1)).mappings()
        page = _page([*map(dict, rows)], size, cursor is not None, backwards)
        describe_studies(self._connection, page.rows)
        return page

    def _key(self, columns: tuple[Column[Any], ...]) -> list[ColumnElement[Any]]:
        """What the rows are ordered by; few rows are sorted, and not looked for in their order."""
        first = columns[0] if self._few is None else unindexed(columns[0])
        return [first, *columns[1:]]

    def _conditions(self, columns: tuple[Column[Any], ...]) -> list[ColumnElement[bool]]:
        """The conditions of a page; only the column that it is ordered by may bound the rows."""
        if self._few is not None:
            return [among(study.c.id, self._few)]
        return [each.test if each.column is columns[0] else each.blind_test for each in self._tests]


def studies(connection: Connection, wanted: StudyFilter | None = None, **page: Any) -> Page:
    """A page of the studies that match; see `StudySearch.page`."""
    return StudySearch(connection, wanted).page(**page)


def _page(found: list[dict[str, Any]], size: int, is_inside: bool, backwards: bool) -> Page:
    """The rows of a page in the order asked for, and its neighbours' cursors.

    Args:
        found: the rows with their keys, and one more if others follow.
        is_inside: whether the page does not begin at an end.
    """
    has_more, rows = len(found) > size, found[:size]
    if backwards:
        rows.reverse()
    names = [name for name in (rows[0] if rows else ()) if name.startswith(_KEY)]
    keys = [tuple(row.pop(name) for name in names) for row in rows]
    if not keys:
        return Page([], None)
    has_next, has_previous = (is_inside, has_more) if backwards else (has_more, is_inside)
    return Page(rows, keys[-1] if has_next else None, keys[0] if has_previous else None)


def modalities(connection: Connection) -> list[str]:
    """The modalities there are."""
    return _distinct(connection, series.c.modality)


def sources(connection: Connection) -> list[str]:
    """The AE titles that sent instances."""
    return _distinct(connection, study_source.c.calling_ae_title)


def labels(connection: Connection) -> list[str]:
    """The labels there are."""
    return _distinct(connection, study_label.c.label)


def _distinct(connection: Connection, column: Column[str]) -> list[str]:
    return list(connection.execute(_distinct_values(column)).scalars())


@cache
def _distinct_values(column: Column[str]) -> Select[Any]:
    """The values of a column, each found with one step in its index, however many rows."""
    found = select(func.min(column).label("value")).where(column > "")
    values = found.cte("distinct_values", recursive=True)
    greater = select(func.min(column)).where(column > values.c.value).scalar_subquery()
    values = values.union_all(select(greater).where(values.c.value.is_not(None)))
    return select(values.c.value).where(values.c.value.is_not(None)).limit(MAX_PAGE)
