"""Reads the table of a coercion: a CSV file whose first line names its columns.

Rules: UTF-8; a value stands once, or always with the same replacement. The node reads the file when
it starts and when it reloads its configuration.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import Final

_MAX_BYTES: Final = 64 << 20


class TableError(ValueError):
    """A table that cannot be used; its text is what was expected."""


def read_table(path: Path, key: str = "", value: str = "") -> Mapping[str, str]:
    """Read what values become.

    Args:
        key: the name of the column with the values; the first column if it is empty.
        value: the name of the column with their replacements; the second if it is empty.
    Raises:
        TableError: the file cannot be read, or is no such table.
    """
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise TableError(f"a table of at most {_MAX_BYTES >> 20} MB")
        with path.open(encoding="utf-8-sig", newline="") as file:
            return _read(csv.reader(file, strict=True), key, value)
    except OSError as error:
        raise TableError(f"a file that can be read: {error.strerror or error}") from None
    except UnicodeDecodeError:
        raise TableError("a CSV file in UTF-8") from None
    except csv.Error as error:
        raise TableError(f"a CSV file: {error}") from None


def _read(rows: csv._reader, key: str, value: str) -> Mapping[str, str]:
    names = [name.strip() for name in next(rows, [])]
    if len(names) < 2:
        raise TableError("a CSV file with a first line that names two columns or more")
    of_key = _column(names, key, 0)
    of_value = _column(names, value, 1)
    found: dict[str, str] = {}
    for row in rows:
        if not row:
            continue
        if len(row) != len(names):
            raise TableError(f"{len(names)} columns in line {rows.line_num}, which has {len(row)}")
        text, replacement = row[of_key].strip(), row[of_value].strip()
        if found.setdefault(text, replacement) != replacement:
            raise TableError(f"each value once; line {rows.line_num} repeats one of another line")
    return found


def _column(names: list[str], name: str, default: int) -> int:
    if not name:
        return default
    if names.count(name) != 1:
        raise TableError(f"one column {name!r}; there are {', '.join(names)}")
    return names.index(name)
