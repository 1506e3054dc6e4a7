"""Lists the worklist for people: a page of items in the order in which they begin.

Rules: as in `index.browse`: pages are cut by key, so that an item that comes or goes moves no other
to a page where it is seen twice or not at all.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from sqlalchemy import ColumnElement, Connection, Select, exists, func, or_, select, tuple_

from lfscp.archive.index.browsing.browse import MAX_PAGE
from lfscp.archive.index.browsing.text_search import MAX_WORDS
from lfscp.archive.index.tables.dialects import holds_text
from lfscp.archive.index.tables.workflow_tables import worklist_item, worklist_step
from lfscp.archive.workflow.worklist.item import WorklistItem
from lfscp.archive.workflow.worklist.rows import COLUMNS, kept, read_item
from lfscp.dicom.values.person_names import search_form

_ITEM: Final = worklist_item.c
_STEP: Final = worklist_step.c
_BEGINS: Final = func.min(_STEP.start_date + _STEP.start_time)
_LAST_DAY: Final = "~"  # after every digit

Cursor = tuple[str, int]


@dataclass(frozen=True, slots=True)
class ItemFilter:
    """Conditions for items.

    Args:
        text: words; each is in the patient's name, begins the Patient ID, the accession number or
            the Requested Procedure ID, or is the Study Instance UID.
        statuses: of a step; none for all.
        date_from: the first day of a step, YYYYMMDD; `date_to` the last one.
        station_ae_title: of a step; `modality` too.
    """

    text: str = ""
    statuses: Collection[str] = ()
    date_from: str = ""
    date_to: str = ""
    station_ae_title: str = ""
    modality: str = ""


class ItemPage(NamedTuple):
    """Some items, and the cursor of the next page; None on the last one."""

    items: list[WorklistItem]
    next: Cursor | None


class Choices(NamedTuple):
    """What the steps of the worklist have, to choose from."""

    modalities: list[str]
    stations: list[str]


def page_of_items(
    connection: Connection, wanted: ItemFilter, *, after: Cursor | None = None, limit: int = 50
) -> ItemPage:
    """A page of items, the one that begins first at the top.

    Args:
        after: the cursor of the page before; None for the first page.
        limit: items of a page, at most MAX_PAGE.
    """
    size = max(1, min(limit, MAX_PAGE))
    rows = connection.execute(_statement(wanted, after).limit(size + 1)).all()
    items = [read_item(row[:-1]) for row in rows[:size]]
    last = rows[size - 1] if len(rows) > size else None
    return ItemPage(items, None if last is None else (last.begins, last.id))


def newest_items(
    connection: Connection,
    *,
    text: str = "",
    statuses: Collection[str] = (),
    after: int = 0,
    limit: int = 100,
) -> list[WorklistItem]:
    """A page of items, the newest first.

    Args:
        text: a part of Patient's Name, Patient ID, Accession Number or Requested Procedure ID.
        statuses: of which one of its steps has one; none for all.
        after: the ID of the last item of the page before.
    """
    wanted = select(*COLUMNS).order_by(_ITEM.id.desc()).limit(limit)
    if after:
        wanted = wanted.where(_ITEM.id < after)
    if text:
        wanted = wanted.where(_holds(text))
    of_steps = _of_steps(ItemFilter(statuses=statuses))
    if of_steps:
        wanted = wanted.where(exists().where(_STEP.item_id == _ITEM.id, *of_steps))
    return [read_item(row) for row in connection.execute(wanted)]


def choices(connection: Connection) -> Choices:
    """The modalities and stations of all steps."""
    columns = (_STEP.modality, _STEP.station_ae_title)
    found = [
        connection.execute(select(column).distinct().order_by(column).limit(MAX_PAGE)).scalars()
        for column in columns
    ]
    return Choices(*(list(each) for each in found))


def _statement(wanted: ItemFilter, after: Cursor | None) -> Select[Any]:
    steps = select(_STEP.item_id, _BEGINS.label("begins")).group_by(_STEP.item_id)
    begun = steps.where(*_of_steps(wanted)).subquery()
    key = (begun.c.begins, _ITEM.id)
    statement = select(*COLUMNS, begun.c.begins).join(begun, begun.c.item_id == _ITEM.id)
    for word in wanted.text.split()[:MAX_WORDS]:
        statement = statement.where(_names(word))
    if after is not None:
        statement = statement.where(tuple_(*key) > tuple_(*after))
    return statement.order_by(*key)


def _of_steps(wanted: ItemFilter) -> list[ColumnElement[bool]]:
    conditions: list[ColumnElement[bool]] = []
    if wanted.statuses:
        conditions.append(_STEP.status.in_(list(wanted.statuses)))
    if wanted.date_from or wanted.date_to:
        last = wanted.date_to or _LAST_DAY
        conditions.append(_STEP.start_date.between(wanted.date_from, last))
    if wanted.station_ae_title:
        conditions.append(_STEP.station_ae_title == wanted.station_ae_title)
    if wanted.modality:
        conditions.append(_STEP.modality == wanted.modality)
    return conditions


def _names(word: str) -> ColumnElement[bool]:
    """Whether a word of a search is about an item."""
    begun = (_ITEM.patient_id, _ITEM.accession_number, _ITEM.requested_procedure_id)
    return or_(
        _ITEM.patient_name_search.contains(search_form(word), autoescape=True),
        *(column.startswith(word, autoescape=True) for column in begun),
        _ITEM.study_instance_uid == word,
    )


def _holds(text: str) -> ColumnElement[bool]:
    """Whether the name or an identifier of an item holds a text, whatever its case."""

    def pattern(part: str) -> str:
        for sign in "\\%_":
            part = part.replace(sign, f"\\{sign}")
        return f"%{part}%"

    text = kept(text)
    identifiers = (_ITEM.patient_id, _ITEM.accession_number, _ITEM.requested_procedure_id)
    return or_(
        holds_text(_ITEM.patient_name_search, pattern(search_form(text))),
        *(holds_text(column, pattern(text)) for column in identifiers),
    )
