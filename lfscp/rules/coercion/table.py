"""Reads the table of a coercion: CSV, whose first line names its columns.

Rules: a value stands once, or always with the same replacement. Spaces around values do not count.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping


class TableError(ValueError):
    """A table that cannot be used; its text is what was expected."""


def read_table(text: str, key: str = "", value: str = "") -> Mapping[str, str]:
    """Read what values become.

    Args:
        key: the name of the column with the values; the first column if it is empty.
        value: the name of the column with their replacements; the second if it is empty.
    Raises:
        TableError: it is no such table.
    """
    lines = text.removeprefix("\ufeff").splitlines(keepends=True)
    try:
        return _read(csv.reader(lines, strict=True), key, value)
    except csv.Error as error:
        raise TableError(f"a CSV file: {error}") from None


def _read(rows: Iterator[list[str]], key: str, value: str) -> Mapping[str, str]:
    names = [name.strip() for name in next(rows, [])]
    if len(names) < 2:
        raise TableError("a CSV file with a first line that names two columns or more")
    of_key = _column(names, key, 0)
    of_value = _column(names, value, 1)
    found: dict[str, str] = {}
    for number, row in enumerate(rows, 2):
        if not row:
            continue
        if len(row) != len(names):
            raise TableError(f"{len(names)} columns in row {number}, which has {len(row)}")
        text, replacement = row[of_key].strip(), row[of_value].strip()
        if found.setdefault(text, replacement) != replacement:
            raise TableError(f"each value once; row {number} repeats one with another replacement")
    return found


def _column(names: list[str], name: str, default: int) -> int:
    if not name:
        return default
    if names.count(name) != 1:
        raise TableError(f"one column {name!r}; there are {', '.join(names)}")
    return names.index(name)
