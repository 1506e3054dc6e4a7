"""Writes a list of studies as a table (CSV, RFC 4180) for a spreadsheet.

Rules: values are as they are stored. Only a text that a spreadsheet would take for a formula gets
an apostrophe before it; also behind a semicolon, which parts cells in some countries.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any, Final

from lfscp.archive.index.browsing.browse import MAX_PAGE
from lfscp.archive.index.browsing.study_filter import StudyFilter
from lfscp.archive.index.browsing.study_pages import StudySearch
from lfscp.web.actions.study_query import StudyQuery, keys_of
from lfscp.web.context import Web

_COLUMNS: Final = (
    *("patient_name", "patient_id", "patient_birth_date", "patient_sex", "study_date"),
    *("study_time", "modalities", "study_description", "accession_number"),
    *("referring_physician_name", "calling_ae_titles", "received_at", "labels", "is_protected"),
    *("number_of_series", "number_of_instances", "study_instance_uid"),
)
# Spreadsheets of East Asia take wide signs for the others.
_OF_A_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")  # noqa: RUF001
_BEHIND_A_SEMICOLON: Final = re.compile(r"(;[\s\"]*)(?=[=+\-@＝＋－＠])")  # noqa: RUF001


def study_table(web: Web, asked: StudyQuery) -> Iterator[str]:
    """The table, piece by piece: the selected studies, or else all that match, in their order."""
    wanted = StudyFilter(keys=keys_of(asked.select)) if asked.select else asked.wanted()
    return _pieces(web, wanted, asked.order)


def _pieces(web: Web, wanted: StudyFilter, order: str) -> Iterator[str]:
    yield _lines([_COLUMNS])
    after = None
    while True:
        with web.index() as connection:  # not held while a slow client reads
            page = StudySearch(connection, wanted).page(order, after=after, limit=MAX_PAGE)
        yield _lines([[_cell(row[name], name) for name in _COLUMNS] for row in page.rows])
        after = page.next
        if after is None:
            return


def _lines(rows: Any) -> str:
    text = io.StringIO()
    csv.writer(text).writerows(rows)
    return text.getvalue()


def _cell(value: Any, name: str) -> str:
    if name == "received_at":
        moment = datetime.fromtimestamp(value / 1000, UTC)
        return moment.isoformat(timespec="seconds").replace("+00:00", "Z")
    text = "\\".join(value) if isinstance(value, list) else str(value)
    is_formula = text.lstrip(" ").startswith(_OF_A_FORMULA) and not _is_number(text)
    text = _BEHIND_A_SEMICOLON.sub(r"\1'", text)
    return f"'{text}" if is_formula else text


def _is_number(text: str) -> bool:
    return text[1:].replace(".", "", 1).isdecimal()
