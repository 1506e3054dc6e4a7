"""Removes rows from the index: an entity with all below it, and parents that became empty.

Each function runs in a transaction of its caller. The files of the rows go after it; until they
are gone their paths stand in the table `removal`, so that a crash in between leaves none behind.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final, NamedTuple, TypeVar

from sqlalchemy import (
    ColumnElement,
    Connection,
    Join,
    RowMapping,
    and_,
    bindparam,
    delete,
    exists,
    false,
    insert,
    literal_column,
    select,
    update,
)

from lfscp.archive.errors import StudyProtectedError
from lfscp.archive.index.clock_readings import wall_ms
from lfscp.archive.index.patient_identity import PatientIdentity, are_in_conflict
from lfscp.archive.index.tables.correction_tables import kept_object
from lfscp.archive.index.tables.maintenance_tables import (
    EVERY_OBJECT,
    protection,
    removal,
    unread_study,
)
from lfscp.archive.index.tables.schema import (
    TABLES,
    attribute_columns,
    identity_columns,
    instance,
    patient,
    series,
    study,
)
from lfscp.archive.index.tables.study_tables import study_label
from lfscp.dicom.values.attributes import UNIQUE_KEY, Level

_KEYS_PER_STATEMENT: Final = 500  # every database takes so many parameters
_ABOVE_INSTANCES: Final = series.join(study).join(patient)
_Key = TypeVar("_Key", int, str)
_OF_PATIENT: Final = [study.c[column.name] for column in attribute_columns(Level.PATIENT)]
_MAX_SAID: Final = 1000  # different values of one patient's studies that are looked at


class Removed(NamedTuple):
    """What was removed from the index.

    Args:
        paths: of the files that no row refers to any longer, with those that were kept beside them.
        instances: how many there were.
    """

    paths: list[str]
    instances: int


def named(level: Level, uid: str, key: int | None = None) -> ColumnElement[bool]:
    """The condition of the rows with a unique key; an empty one names nothing.

    Args:
        key: of the row, where only one of several with this UID is meant.
    """
    if not uid:
        return false()
    table = TABLES[level]
    condition = table.c[UNIQUE_KEY[level].column] == uid
    return condition if key is None else and_(condition, table.c.id == key)


def delete_entity(
    connection: Connection,
    level: Level,
    uid: str,
    key: int | None = None,
    *,
    spare_protected: bool = False,
) -> Removed:
    """Remove a patient, study, series or instance with all that belongs to it.

    Args:
        key: of the row, where only one of several with this UID is to go.
        spare_protected: whether to refuse when something of it belongs to a protected study.
    Returns:
        What is gone; its files are in `removal` now.
    Raises:
        StudyProtectedError: see `spare_protected`; nothing is removed.
    """
    condition = named(level, uid, key)
    tables = _ABOVE_INSTANCES.join(instance) if level is Level.IMAGE else _ABOVE_INSTANCES
    if connection.dialect.name != "sqlite":  # which has one writer
        _hold_above(connection, tables, condition)
    if spare_protected:
        require_unprotected(connection, condition)
    columns = (instance.c.id, instance.c.path, instance.c.sop_instance_uid)
    rows = select(*columns).select_from(_ABOVE_INSTANCES.join(instance))
    series_keys = select(series.c.id).select_from(tables).where(condition)
    parents = _parents(connection, series.c.id.in_(series_keys))
    # By key from here on: another node may add or replace an instance between two statements.
    wanted = {row.id: row for row in connection.execute(rows.where(condition))}
    removed = [row.path for row in wanted.values()]
    forget_removals(connection, removed)  # a path may be taken, and given free, several times
    now = bindparam("now", wall_ms(), type_=removal.c.removed_at.type)
    for piece in pieces_of(wanted):
        gone = select(instance.c.path, now).where(instance.c.id.in_(piece))
        connection.execute(insert(removal).from_select(["path", "removed_at"], gone))
        connection.execute(delete(instance).where(instance.c.id.in_(piece)))
    kept = _remove_kept(connection, [row.sop_instance_uid for row in wanted.values()])
    _prune(connection, parents)
    return Removed([*removed, *kept], len(removed))


def _remove_kept(connection: Connection, sop_instance_uids: Iterable[str]) -> list[str]:
    """Have the files removed that are kept of instances which go."""
    paths: list[str] = []
    for piece in pieces_of(sop_instance_uids):
        of_them = kept_object.c.sop_instance_uid.in_(piece)
        paths += connection.execute(select(kept_object.c.path).where(of_them)).scalars()
        connection.execute(delete(kept_object).where(of_them))
    note_removals(connection, paths)
    return paths


def note_removals(connection: Connection, paths: Sequence[str]) -> None:
    """Put files on the list of those that are to be removed."""
    forget_removals(connection, paths)
    now = wall_ms()
    values = [{"path": path, "removed_at": now} for path in dict.fromkeys(paths)]
    if values:
        connection.execute(insert(removal), values)


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


def _hold_above(connection: Connection, tables: Join, condition: ColumnElement[bool]) -> None:
    """Lock the rows above a deletion, so that other nodes add nothing below them."""
    for table in (patient, study, series):  # in the order of those that add
        keys = select(table.c.id).select_from(tables).where(condition)
        held = select(table.c.id).where(table.c.id.in_(keys)).order_by(table.c.id)
        connection.execute(held.with_for_update()).all()


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
    labelled = _labelled(connection, parents[1])
    for (parent, foreign_key), keys in zip(pairs, parents, strict=True):
        empty = ~exists().where(foreign_key == parent.c.id)
        for piece in pieces_of(keys):
            connection.execute(delete(parent).where(parent.c.id.in_(piece), empty))
    _remove_labels(connection, labelled)
    _reconsider(connection, parents[1], parents[2])


def _labelled(connection: Connection, studies: set[int]) -> list[str]:
    """The UIDs of those studies that have labels."""
    found: list[str] = []
    for piece in pieces_of(studies):
        has_label = exists().where(study_label.c.study_instance_uid == study.c.study_instance_uid)
        wanted = select(study.c.study_instance_uid).where(study.c.id.in_(piece), has_label)
        found += connection.execute(wanted).scalars()
    return found


def _remove_labels(connection: Connection, study_uids: list[str]) -> None:
    """Remove the labels of those studies that are gone."""
    is_gone = ~exists().where(study.c.study_instance_uid == study_label.c.study_instance_uid)
    for piece in pieces_of(study_uids):
        of_these = study_label.c.study_instance_uid.in_(piece)
        connection.execute(delete(study_label).where(of_these, is_gone))


def _reconsider(connection: Connection, studies: set[int], patients: set[int]) -> None:
    """Look again at conflicts, a side of which may have gone."""
    for piece in pieces_of(studies):
        in_conflict = select(study.c.id, literal_column(str(EVERY_OBJECT))).where(
            study.c.id.in_(piece),
            study.c.has_conflict == 1,
            study.c.id.not_in(select(unread_study.c.study_fk)),
        )
        connection.execute(insert(unread_study).from_select(["study_fk", "step"], in_conflict))
    for piece in pieces_of(patients):
        marked = select(patient.c.id).where(patient.c.id.in_(piece), patient.c.has_conflict == 1)
        settle_patients(connection, connection.execute(marked).scalars().all())


def settle_patients(connection: Connection, patients: Iterable[int]) -> list[int]:
    """Bring patients' rows to what their studies say now.

    Args:
        patients: keys.
    Returns:
        The keys of those that are in conflict and were not before.
    """
    return [key for key in patients if _settle(connection, key)]


def _settle(connection: Connection, key: int) -> bool:
    """The attributes are those of the patient's first study, completed by the others'."""
    row = connection.execute(select(patient).where(patient.c.id == key)).mappings().first()
    own = select(*_OF_PATIENT).where(study.c.patient_id_fk == key)
    said = connection.execute(own.distinct().limit(_MAX_SAID)).mappings().all()
    first = connection.execute(own.order_by(study.c.id).limit(1)).mappings().first()
    if row is None or first is None:
        return False
    own_identity = _identity_of(first)
    agreeing = [each for each in said if not _identity_of(each).contradicts(own_identity)]
    values: dict[str, Any] = {
        name: next((each[name] for each in (first, *agreeing) if each[name]), "") for name in first
    }
    identities = {_identity_of(each) for each in said}
    values["has_conflict"] = int(are_in_conflict(list(identities)))
    if any(row[name] != value for name, value in values.items()):
        connection.execute(update(patient).where(patient.c.id == key).values(values))
    return bool(values["has_conflict"] > row["has_conflict"])


def _identity_of(said: RowMapping) -> PatientIdentity:
    return PatientIdentity(*(said[column.name] for column in identity_columns(study)))


def pieces_of(values: Iterable[_Key]) -> list[list[_Key]]:
    """Cut a list of keys into lists that one statement takes; each key once."""
    unique = list(dict.fromkeys(values))
    starts = range(0, len(unique), _KEYS_PER_STATEMENT)
    return [unique[start : start + _KEYS_PER_STATEMENT] for start in starts]


def require_unprotected(connection: Connection, condition: ColumnElement[bool]) -> None:
    """Refuse to touch what belongs to a protected study.

    Args:
        condition: of the rows of any level that are meant.
    Raises:
        StudyProtectedError: one of them does.
    """
    is_protected = exists().where(protection.c.study_instance_uid == study.c.study_instance_uid)
    wanted = (
        select(study.c.study_instance_uid)
        .select_from(_ABOVE_INSTANCES.join(instance))
        .where(condition, is_protected)
    )
    found = connection.execute(wanted.limit(1)).scalar()
    if found is not None:
        raise StudyProtectedError(found)
