"""Removes rows from the index: an entity with all below it, and parents that became empty.

Each function runs in a transaction of its caller. The files of the rows go after it; until they
are gone their paths stand in the table `removal`, so that a crash in between leaves none behind.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Final, TypeVar

from sqlalchemy import (
    ColumnElement,
    Connection,
    Select,
    bindparam,
    delete,
    exists,
    insert,
    select,
)

from lfscp.archive.attributes import UNIQUE_KEY, Level
from lfscp.archive.maintenance_tables import removal
from lfscp.archive.schema import TABLES, instance, patient, series, study

_KEYS_PER_STATEMENT: Final = 500  # every database takes so many parameters
_ABOVE_INSTANCES: Final = series.join(study).join(patient)
_Key = TypeVar("_Key", int, str)


def delete_entity(connection: Connection, level: Level, uid: str) -> list[str]:
    """Remove a patient, study, series or instance with all that belongs to it.

    Returns:
        The paths of the files that no row refers to any longer; they are in `removal` now.
    """
    if connection.dialect.name != "sqlite":  # which has one writer
        _hold_above(connection, level, uid)
    column = TABLES[level].c[UNIQUE_KEY[level].column]
    rows = select(instance.c.id, instance.c.path).select_from(_ABOVE_INSTANCES.join(instance))
    parents = _parents(connection, series.c.id.in_(_series_of(level, uid)))
    # By key from here on: another node may add or replace an instance between two statements.
    wanted = {row.id: row.path for row in connection.execute(rows.where(column == uid))}
    removed = list(wanted.values())
    forget_removals(connection, removed)  # a path may be taken, and given free, several times
    now = bindparam("now", time.time_ns() // 1_000_000, type_=removal.c.removed_at.type)
    for piece in pieces_of(wanted):
        named = select(instance.c.path, now).where(instance.c.id.in_(piece))
        connection.execute(insert(removal).from_select(["path", "removed_at"], named))
        connection.execute(delete(instance).where(instance.c.id.in_(piece)))
    _prune(connection, parents)
    return removed


def pending_removals(connection: Connection, before_ms: int) -> list[str]:
    """Paths that were to be removed with rows deleted before a time, in ms since 1970."""
    wanted = select(removal.c.path).where(removal.c.removed_at < before_ms)
    return list(connection.execute(wanted).scalars())


def forget_removals(connection: Connection, paths: Iterable[str]) -> None:
    """Take paths from the list of those that are to be removed."""
    for piece in pieces_of(paths):
        connection.execute(delete(removal).where(removal.c.path.in_(piece)))


def prune(connection: Connection, condition: ColumnElement[bool]) -> None:
    """Remove series without instances, studies without series, patients without studies.

    Args:
        condition: which series, with their studies and patients, to look at.
    """
    _prune(connection, _parents(connection, condition))


def _hold_above(connection: Connection, level: Level, uid: str) -> None:
    """Let other nodes add nothing below what is about to go: what refers to a row waits for it."""
    column = TABLES[level].c[UNIQUE_KEY[level].column]
    tables = _ABOVE_INSTANCES.join(instance) if level is Level.IMAGE else _ABOVE_INSTANCES
    for table in (patient, study, series):  # as those who add go from one to the next
        keys = select(table.c.id).select_from(tables).where(column == uid)
        held = select(table.c.id).where(table.c.id.in_(keys)).order_by(table.c.id)
        connection.execute(held.with_for_update()).all()


def _series_of(level: Level, uid: str) -> Select[tuple[int]]:
    """The keys of the series that an entity of any level belongs to or has."""
    column = TABLES[level].c[UNIQUE_KEY[level].column]
    tables = _ABOVE_INSTANCES.join(instance) if level is Level.IMAGE else _ABOVE_INSTANCES
    return select(series.c.id).select_from(tables).where(column == uid)


def _parents(connection: Connection, condition: ColumnElement[bool]) -> list[set[int]]:
    """The keys of series, studies and patients that meet a condition."""
    columns = (series.c.id, study.c.id, patient.c.id)
    found: list[set[int]] = [set(), set(), set()]
    for row in connection.execute(select(*columns).select_from(_ABOVE_INSTANCES).where(condition)):
        for keys, key in zip(found, row, strict=True):
            keys.add(key)
    return found


def _prune(connection: Connection, parents: list[set[int]]) -> None:
    """Remove those of the series, studies and patients that nothing belongs to any longer."""
    pairs = (
        (series, instance.c.series_fk),
        (study, series.c.study_fk),
        (patient, study.c.patient_id_fk),
    )
    for (parent, foreign_key), keys in zip(pairs, parents, strict=True):
        empty = ~exists().where(foreign_key == parent.c.id)
        for piece in pieces_of(keys):
            connection.execute(delete(parent).where(parent.c.id.in_(piece), empty))


def pieces_of(values: Iterable[_Key]) -> list[list[_Key]]:
    """Cut a list of keys into lists that one statement takes; each key once."""
    unique = list(dict.fromkeys(values))
    starts = range(0, len(unique), _KEYS_PER_STATEMENT)
    return [unique[start : start + _KEYS_PER_STATEMENT] for start in starts]
