"""Takes rows from an index that may be damaged into a new one: those that no object could tell.

Rules: a table is read from both its ends, as far as the damage lets it; a row with a value that
nothing of ours has written is left out. Columns that an older index does not have get defaults.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import Any, Final

from sqlalchemy import Column, Connection, Table, insert, select

from lfscp.archive.index.tables.correction_tables import (
    corrected_study,
    correction,
    kept_object,
)
from lfscp.archive.index.tables.maintenance_tables import protection
from lfscp.archive.index.tables.route_tables import (
    route_item,
    route_outcome,
    route_queue,
)
from lfscp.archive.index.tables.study_tables import study_label
from lfscp.archive.index.tables.workflow_tables import (
    commitment,
    commitment_request,
    committed_study,
    procedure_step,
    worklist_item,
    worklist_step,
)
from lfscp.archive.upkeep.index_copy import connect
from lfscp.dicom.encoding.transfer_syntaxes import EXPLICIT_VR_LITTLE_ENDIAN
from lfscp.dicom.errors import DatasetError
from lfscp.dicom.models.element_tree import read_tree

_TABLES: Final = (
    protection,
    study_label,
    worklist_item,
    worklist_step,  # after the items, which they refer to
    procedure_step,
    commitment,
    committed_study,
    commitment_request,
    kept_object,
    correction,
    corrected_study,
    route_item,
    route_queue,
    route_outcome,  # route_release has keys of instances, which are others in the new index
)
_PIECE: Final = 200  # rows
_Rows = list[tuple[Any, ...]]


def carry_over(index: Path, into: Connection) -> None:
    """Copy what no object tells: protected studies, labels, workflow, corrections, queues.

    Args:
        index: the old SQLite index; it may be missing, and nothing in it is changed.
        into: a transaction in the new one.
    """
    with suppress(sqlite3.Error), closing(connect(index)) as old:
        for table in _TABLES:
            with suppress(sqlite3.Error):
                _copy(old, table, into)


def _copy(old: sqlite3.Connection, table: Table, into: Connection) -> None:
    present = {row[1] for row in old.execute(f"PRAGMA table_info({table.name})")}
    columns = [column for column in table.columns if column.name in present]
    if not columns:
        return
    statement = insert(table).prefix_with("OR IGNORE")  # of what breaks a rule of the table
    items = set(into.execute(select(worklist_item.c.id)).scalars())
    names = [column.name for column in columns]
    for rows in _readable(old, table.name, names):
        values = [dict(zip(names, row, strict=True)) for row in rows if _is_ours(columns, row)]
        if table is worklist_step:
            values = [each for each in values if each["item_id"] in items]
        if values:
            into.execute(statement, values)


def _is_ours(columns: Sequence[Column[Any]], row: Sequence[Any]) -> bool:
    """Whether each value is of its column's type, and each dataset can be read."""
    try:
        for column, value in zip(columns, row, strict=True):
            if not isinstance(value, column.type.python_type):
                return False
            if isinstance(value, bytes):
                read_tree(value, EXPLICIT_VR_LITTLE_ENDIAN)
    except DatasetError:
        return False
    return True


def _readable(old: sqlite3.Connection, table: str, columns: Sequence[str]) -> Iterator[_Rows]:
    """The rows of a table up to the first damage, then those from the end back to the last one."""
    wanted = f"SELECT rowid, {', '.join(columns)} FROM {table}"  # noqa: S608 - names of our own
    last = -(1 << 63)
    try:
        for rows in _pieces(old, f"{wanted} ORDER BY rowid"):
            last = rows[-1][0]
            yield [row[1:] for row in rows]
    except sqlite3.Error:
        behind = f"{wanted} WHERE rowid > {last} ORDER BY rowid DESC"
        for rows in _pieces(old, behind):
            yield [row[1:] for row in rows]


def _pieces(old: sqlite3.Connection, statement: str) -> Iterator[_Rows]:
    """Rows of a statement, some at a time; what comes before an error is given before it."""
    cursor = old.execute(statement)
    failed: sqlite3.Error | None = None
    while failed is None:
        rows: _Rows = []
        try:
            for row in cursor:
                rows.append(row)
                if len(rows) == _PIECE:
                    break
        except sqlite3.Error as error:
            failed = error
        if rows:
            yield rows
        elif failed is None:
            return
    raise failed
