"""Reads lists of accession numbers or patient IDs, as people paste them or save them as CSV.

A list has one value a line, or is a table with a comma, semicolon or tab between its columns. If
the first line names the columns, the one with the right name is read, else the first one.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final

from lfscp.jobs.request import MAX_LISTED
from lfscp.web.problems import Problem

LISTED: Final[Mapping[str, str]] = {
    "AccessionNumber": "Accession numbers",
    "PatientID": "Patient IDs",
}
# How people head the column, in lower case, without spaces and signs; and the most characters of a
# value (PS3.5 table 6.2-1: SH and LO).
_HEADS: Final = {
    "AccessionNumber": {"accessionnumber", "accession", "accessionno", "accno", "acc", "accnr"},
    "PatientID": {"patientid", "patid", "pid", "mrn", "patientno", "patientnumber"},
}
_MOST: Final = {"AccessionNumber": 16, "PatientID": 64}
_DIVIDERS: Final = "\t;,"
_NOT_IN_A_VALUE: Final = re.compile(r"[*?\\]|[^\S ]|[\x00-\x1f]")


@dataclass(frozen=True, slots=True)
class IdentifierList:
    """A list that was read; `repeated` values are left out."""

    values: list[str]
    repeated: int = 0


def read_list(text: str, keyword: str) -> IdentifierList:
    """Read a list.

    Args:
        keyword: one of LISTED.
    Raises:
        Problem: it is empty, too long, or a line is wrong; says which.
    """
    if keyword not in LISTED:
        raise _wrong(f"a list has {' or '.join(LISTED)}")
    rows = _rows(text)
    column, first = _column(rows, keyword)
    values: dict[str, None] = {}
    count = 0
    for number, row in rows[first:]:
        value = row[column].strip() if column < len(row) else ""
        if value:
            _check(value, keyword, number)
            values[value] = None
            count += 1
    if not values:
        raise _wrong("the list is empty: give one value a line, or a CSV file")
    if len(values) > MAX_LISTED:
        raise _wrong(f"the list has {len(values)} values; at most {MAX_LISTED} make one job")
    return IdentifierList(list(values), count - len(values))


def decoded(content: bytes) -> str:
    """The text of a CSV file: UTF-8, or what spreadsheets on Windows write.

    Raises:
        Problem: it is no text.
    """
    if b"\0" in content and not content.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise _wrong("the file is no text; save the table as CSV")
    for encoding in ("utf-16",) if content[:2] in (b"\xff\xfe", b"\xfe\xff") else ("utf-8-sig",):
        try:
            return content.decode(encoding)
        except UnicodeDecodeError:
            break
    return content.decode("cp1252", "replace")


def _rows(text: str) -> list[tuple[int, list[str]]]:
    """The lines that are not empty, by number, cut into columns."""
    lines = text.splitlines()
    head = next((line for line in lines if line.strip()), "")
    divider = max(_DIVIDERS, key=head.count)
    try:
        table = list(csv.reader(lines, delimiter=divider))
    except csv.Error as error:
        raise _wrong(f"the list is no CSV: {error}") from None
    return [(number, row) for number, row in enumerate(table, 1) if any(map(str.strip, row))]


def _column(rows: Sequence[tuple[int, list[str]]], keyword: str) -> tuple[int, int]:
    """The column to read, and the first row with values."""
    head = [re.sub(r"[^a-z]", "", each.lower()) for each in rows[0][1]] if rows else []
    for column, name in enumerate(head):
        if name in _HEADS[keyword]:
            return column, 1
    others = {name for known in _HEADS.values() for name in known}
    if others & set(head):
        raise _wrong(f"line {rows[0][0]} names no column for {LISTED[keyword].lower()}")
    return 0, 0


def _check(value: str, keyword: str, line: int) -> None:
    if _NOT_IN_A_VALUE.search(value):
        raise _wrong(f"line {line}: {value[:80]!r} has a wildcard, a backslash or a control sign")
    if len(value) > _MOST[keyword]:
        most = _MOST[keyword]
        raise _wrong(f"line {line}: {value[:80]!r} is longer than {most} characters")


def _wrong(detail: str) -> Problem:
    return Problem(HTTPStatus.UNPROCESSABLE_ENTITY, detail)
