"""Makes the SELECT that narrows the worklist down for a query; `query` decides.

Rules: each key gives at most a range or a few values of one column, which never loses a match and
an index can serve. The text of a statement depends on the shape of the query only, and is compiled
once for each. The rows come in the order of the steps' start; an item may come several times.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from enum import Enum
from typing import Any, Final, NamedTuple

from sqlalchemy import Column, ColumnElement, Dialect, bindparam, literal_column, select

from lfscp.archive.index.database.statements import compiled
from lfscp.archive.index.tables.dialects import holds_text
from lfscp.archive.index.tables.workflow_tables import worklist_item, worklist_step
from lfscp.archive.query.keys import Match, Names, Texts
from lfscp.archive.query.matching import SEVERAL_GROUPS
from lfscp.archive.workflow.worklist.item import (
    ACCESSION_NUMBER,
    ENDED,
    MODALITY,
    PATIENT_ID,
    PATIENT_NAME,
    REQUESTED_PROCEDURE_ID,
    START_DATE,
    START_TIME,
    STATION_AE_TITLE,
    STATUS,
    STEP_ID,
    STUDY_INSTANCE_UID,
)
from lfscp.archive.workflow.worklist.query import WorklistQuery
from lfscp.dicom.values.person_names import GROUP_DELIMITER
from lfscp.dicom.values.temporal import Span

_COLUMN_OF_ITEM: Final = {
    PATIENT_NAME: worklist_item.c.patient_name_search,
    PATIENT_ID: worklist_item.c.patient_id,
    ACCESSION_NUMBER: worklist_item.c.accession_number,
    REQUESTED_PROCEDURE_ID: worklist_item.c.requested_procedure_id,
    STUDY_INSTANCE_UID: worklist_item.c.study_instance_uid,
}
_COLUMN_OF_STEP: Final = {
    STEP_ID: worklist_step.c.step_id,
    STATION_AE_TITLE: worklist_step.c.station_ae_title,
    MODALITY: worklist_step.c.modality,
    START_DATE: worklist_step.c.start_date,
    START_TIME: worklist_step.c.start_time,
    STATUS: worklist_step.c.status,
}
_MODALITY: Final = _COLUMN_OF_STEP[MODALITY]
_FEWEST: Final = 2  # the rank of an identifier's values
_COUNTS: Final = (1, 4, 16, 64)  # of values in one statement; the last is repeated to fill it
_LAST: Final = "\U0010ffff"  # above every character
_WILDCARD: Final = re.compile(r"[*?]")
_SPECIAL: Final = re.compile(r"[\\%_]")  # in a pattern of LIKE's
_KEPT_STATEMENTS: Final = 256
# Literals, not parameters: a statement has those of its keys, and no others.
_ENDED: Final[list[ColumnElement[str]]] = [literal_column(f"'{status}'") for status in ENDED]


class _Says(Enum):
    """What values say of a column."""

    IS_ONE_OF = 1
    IS_FROM_TO = 2  # both inclusive
    HOLDS = 3


class _Bounds(NamedTuple):
    """What one key says of a column."""

    column: Column[str]
    says: _Says
    values: tuple[str, ...]

    @property
    def rank(self) -> int:
        """How few items can have that: values of an identifier, of a station, others."""
        if self.says is not _Says.IS_ONE_OF:
            return 0
        if self.column.table is worklist_item:
            return _FEWEST
        return int(self.column is _COLUMN_OF_STEP[STATION_AE_TITLE])


class Narrowing:
    """The statements compiled so far for one database. Any thread may call it."""

    def __init__(self, on: Dialect) -> None:
        self._dialect = on
        self._kept: dict[tuple[Any, ...], tuple[str, list[int]]] = {}

    def statement(self, query: WorklistQuery) -> tuple[str, list[Any]]:
        """SQL with its parameters; its rows are ID and dataset of items."""
        bounds = list(_bounds(query))
        shape = (query.includes_ended, *((b.column.key, b.says, len(b.values)) for b in bounds))
        kept = self._kept.get(shape)
        if kept is None:
            if len(self._kept) >= _KEPT_STATEMENTS:
                self._kept.clear()
            kept = self._kept[shape] = self._compile(bounds, query.includes_ended)
        sql, places = kept
        values = [value for each in bounds for value in each.values]
        return sql, [values[place] for place in places]

    def _compile(self, bounds: list[_Bounds], includes_ended: bool) -> tuple[str, list[int]]:
        """The text, and which value stands at each of its parameters."""
        step, item = worklist_step.c, worklist_item.c
        wanted = select(item.id, item.dataset).join_from(worklist_step, worklist_item)
        if not includes_ended:
            wanted = wanted.where(step.status.not_in(_ENDED))
        rank = max((each.rank for each in bounds), default=0)
        place = 0
        for each in bounds:
            # A day goes with a station in one index; a modality would lead to another.
            leads = each.rank == rank or (rank < _FEWEST and each.column is not _MODALITY)
            wanted = wanted.where(_condition(each, place, leads_to_index=leads))
            place += len(each.values)
        ordered = wanted.order_by(step.start_date, step.start_time, item.id)
        return compiled(ordered, self._dialect)


def _condition(bounds: _Bounds, place: int, *, leads_to_index: bool) -> ColumnElement[bool]:
    """The condition of bounds whose first value is the one at `place` of all."""
    column: ColumnElement[str] = bounds.column
    values = [
        bindparam(f"value_{at}", at, type_=column.type)
        for at in range(place, place + len(bounds.values))
    ]
    if not leads_to_index:
        column = column.concat(literal_column("''"))  # an expression, which leads to no index
    if bounds.says is _Says.IS_ONE_OF:
        return column == values[0] if len(values) == 1 else column.in_(values)
    if bounds.says is _Says.HOLDS:
        return holds_text(column, values[0])
    low, high = values
    within = column.between(low, high)
    if column is not _COLUMN_OF_ITEM[PATIENT_NAME]:
        return within
    # A name may begin so in a later group; an index has the few that have one.
    named = select(worklist_item.c.id)
    found = named.where(within).union(named.where(column.like(SEVERAL_GROUPS)))
    return worklist_item.c.id.in_(found)


def _bounds(query: WorklistQuery) -> Iterator[_Bounds]:
    compared = [(key, _COLUMN_OF_ITEM) for key in query.compared]
    compared += [(key, _COLUMN_OF_STEP) for key in query.compared_of_steps]
    for key, columns in compared:
        column = columns.get(key.tag)
        found = None if column is None else _of_match(key.match)
        if column is not None and found is not None:
            yield _Bounds(column, *found)
    if query.period is not None:
        days, _ = query.period
        yield _Bounds(_COLUMN_OF_STEP[START_DATE], *_of_span(days))


_Found = tuple[_Says, tuple[str, ...]]


def _of_match(match: Match) -> _Found | None:
    """What a match says of its column; None when everything may fit."""
    if isinstance(match, Span):
        return _of_span(match)
    if isinstance(match, Names):
        return _of_names(match)
    if not isinstance(match, Texts):
        return None
    if match.patterns:
        return _of_patterns(match.values)
    values = match.values
    for count in _COUNTS:
        if len(values) <= count:
            return _Says.IS_ONE_OF, (*values, *(values[-1:] * (count - len(values))))
    return _Says.IS_FROM_TO, (min(values), max(values))


def _of_span(span: Span) -> _Found:
    return _Says.IS_FROM_TO, (span.low, span.high)


def _of_names(names: Names) -> _Found | None:
    """By the first group, after which a name of several groups may hold anything."""
    beginnings = [_beginning(name.groups[0]).rstrip("^") for name in names.names]
    return _of_beginnings(beginnings) or _of_pieces([name.pattern for name in names.names])


def _of_patterns(patterns: Sequence[str]) -> _Found | None:
    beginnings = [_beginning(pattern) for pattern in patterns]
    return _of_beginnings(beginnings) or _of_pieces(patterns)


def _of_beginnings(beginnings: Sequence[str]) -> _Found | None:
    if not all(beginnings):
        return None
    return _Says.IS_FROM_TO, (min(beginnings), max(each + _LAST for each in beginnings))


def _of_pieces(patterns: Sequence[str]) -> _Found | None:
    """The longest text that all that fits a pattern holds."""
    if len(patterns) > 1:
        return None
    pieces = [piece.strip("^=") for piece in _WILDCARD.split(patterns[0])]
    longest = max(pieces, key=len)
    if not longest or GROUP_DELIMITER in longest:  # a group that is empty means any
        return None
    literal = _SPECIAL.sub(r"\\\g<0>", longest)
    return _Says.HOLDS, (f"%{literal}%",)


def _beginning(pattern: str) -> str:
    """What every text begins with that fits a pattern."""
    return _WILDCARD.split(pattern, maxsplit=1)[0]
