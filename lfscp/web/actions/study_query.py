"""What a request asks of the list of studies: filters, order, place in the list.

The page and the API take the same parameters, so an address of the page tells what a script asks.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from datetime import date, timedelta
from typing import Annotated, Final, Literal
from urllib.parse import urlencode

from fastapi import Query
from pydantic import AfterValidator
from sqlalchemy import Connection

from lfscp.archive.index.browsing.browse import Page
from lfscp.archive.index.browsing.study_filter import StudyFilter
from lfscp.archive.index.browsing.study_pages import (
    DEFAULT_ORDER,
    ORDERS,
    StudySearch,
    cursor_types,
    require_order,
)
from lfscp.archive.index.browsing.text_search import require_short_words
from lfscp.web.actions import cursors
from lfscp.web.problems import Problem

MAX_SELECTED: Final = 500  # studies that one request names
_DAYS: Final = {"today": 1, "7d": 7, "30d": 30}
_DATE: Final = r"^(\d{4}-?\d{2}-?\d{2})?$"

Text = Annotated[str, AfterValidator(str.strip), AfterValidator(require_short_words)]
Words = Annotated[
    Text, Query(description="Words of name, ID, accession number, description, or a Study UID.")
]
Date = Annotated[str, Query(pattern=_DATE, description="YYYYMMDD, or with dashes.")]
Begin = Annotated[
    Text, Query(description="How it begins. `*` stands for any text, `?` for a character.")
]
InText = Annotated[Text, Query(description="Words in it.")]
Preset = Annotated[
    Literal["", "today", "7d", "30d"],
    Query(description="Studies of today, or of the last 7 or 30 days with today."),
]
Key = Annotated[int | None, Query(ge=0, le=cursors.MAX, description="`id` of a patient.")]
Order = Annotated[
    str,
    AfterValidator(require_order),
    Query(description=f"One of {', '.join(ORDERS)}; with - before it from the end."),
]
Selected = Annotated[
    str,
    Query(
        pattern=r"^(\d{1,19}(\.\d{1,19})*)?$",
        max_length=20 * MAX_SELECTED,
        description="`key` of studies, with dots between them.",
    ),
]


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyQuery:
    """The parameters of a request for studies; an empty one is none.

    Args:
        select: studies that are marked on the page; they do not change what is found.
        after: `next` of the page before; `before` is `previous` of the page behind.
        page: the number of the page, to be shown.
    """

    q: Words = ""
    name: InText = ""
    patient_id: Begin = ""
    birth_date: Annotated[
        str, Query(pattern=r"^[\d-]*$", max_length=10, description="YYYY-MM-DD, or how it begins.")
    ] = ""
    when: Preset = ""
    date_from: Date = ""
    date_to: Date = ""
    modality: Text = ""
    description: InText = ""
    accession: Begin = ""
    referrer: InText = ""
    calling_ae: Annotated[Text, Query(description="AE title that sent an instance.")] = ""
    label: Text = ""
    patient: Key = None
    order: Order = DEFAULT_ORDER
    select: Selected = ""
    after: Annotated[str, Query(description="`next` of the page before.")] = ""
    before: Annotated[str, Query(description="`previous` of the page behind.")] = ""
    page: Annotated[int, Query(ge=1, le=cursors.MAX)] = 1

    @property
    def is_search(self) -> bool:
        """Whether something is filtered."""
        return self.wanted() != StudyFilter()

    def wanted(self) -> StudyFilter:
        """The filter."""
        date_from, date_to = self._dates()
        return StudyFilter(
            text=self.q,
            modality=self.modality,
            date_from=date_from,
            date_to=date_to,
            patient_key=self.patient,
            name=self.name,
            patient_id=self.patient_id,
            birth_date=self.birth_date.replace("-", ""),
            accession_number=self.accession,
            description=self.description,
            referrer=self.referrer,
            calling_ae_title=self.calling_ae,
            label=self.label,
        )

    def _dates(self) -> tuple[str, str]:
        if self.when:  # by the clock of the node, as modalities in its house have it
            today = date.today()  # noqa: DTZ011
            first = today - timedelta(days=_DAYS[self.when] - 1)
            return f"{first:%Y%m%d}", f"{today:%Y%m%d}"
        return self.date_from.replace("-", ""), self.date_to.replace("-", "")

    def search(self, connection: Connection) -> StudySearch:
        """The search in the index."""
        return StudySearch(connection, self.wanted())

    def page_of(self, search: StudySearch, limit: int) -> Page:
        """The page that is asked for.

        Raises:
            Problem: a cursor is wrong.
        """
        kinds = cursor_types(self.order)
        return search.page(
            self.order,
            after=cursors.from_text(self.after, kinds),
            before=cursors.from_text(self.before, kinds),
            limit=limit,
        )

    def address(self, path: str = "/", /, **changes: object) -> str:
        """The address of the same list with some parameters changed.

        A change of anything but the place in the list leads to its first page.
        """
        values = {each.name: getattr(self, each.name) for each in fields(self)}
        values |= {"after": "", "before": "", "page": 1} | changes
        given = {
            each.name: values[each.name]
            for each in fields(self)
            if values[each.name] not in (each.default, None)
        }
        return f"{path}?{urlencode(given)}" if given else path

    def order_by(self, name: str) -> str:
        """The order that a click on a column's head asks for: by it, or the other way round."""
        first = f"-{name}" if name in ("date", "received") else name
        other = first.removeprefix("-") if first.startswith("-") else f"-{first}"
        return other if self.order == first else first

    def direction(self, name: str) -> str:
        """How the list is ordered by a column, as `aria-sort` says it."""
        if self.order.removeprefix("-") != name:
            return "none"
        return "descending" if self.order.startswith("-") else "ascending"


def keys_of(select: str) -> tuple[int, ...]:
    """The keys in a selection.

    Raises:
        Problem: it is no selection, empty, or too long.
    """
    parts = select.split(".") if select else []
    if not parts:
        raise Problem(422, "select studies first")
    if not all(part.isdecimal() and len(part) < 20 for part in parts):
        raise Problem(422, "select: expected keys of studies with dots between them")
    if len(parts) > MAX_SELECTED:
        raise Problem(422, f"select at most {MAX_SELECTED} studies")
    keys = tuple(dict.fromkeys(map(int, parts)))
    if max(keys) > cursors.MAX:
        raise Problem(422, "select: no study has such a key")
    return keys
