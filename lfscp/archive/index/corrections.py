"""Changes the rows of a study whose objects were corrected, and changes them back.

Rules: the rows of a study change in one transaction, so that nobody sees half a correction. The
object that was there stays in the table `kept_object` until the correction is confirmed or undone.
A study that gets another patient gets a row of its own below that patient, or joins the one that is
there with its UID. Functions run in a transaction of their caller.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from sqlalchemy import (
    Connection,
    RowMapping,
    bindparam,
    delete,
    exists,
    insert,
    select,
    update,
)

from lfscp.archive.errors import ArchiveError, StudyProtectedError
from lfscp.archive.index.protection import is_protected
from lfscp.archive.index.removal import note_removals, pieces_of, settle_patients
from lfscp.archive.index.tables.correction_tables import corrected_study, correction, kept_object
from lfscp.archive.index.tables.dialects import insert_if_absent
from lfscp.archive.index.tables.maintenance_tables import EVERY_OBJECT, unread_study
from lfscp.archive.index.tables.schema import (
    attribute_columns,
    instance,
    patient,
    series,
    study,
)
from lfscp.archive.store.object_store import Placement
from lfscp.dicom.values.attributes import Level

_FILE_COLUMNS: Final = (
    "path",
    "transfer_syntax_uid",
    "dataset_character_set",
    "dataset_offset",
    "size",
    "file_size",
    "digest",
    "calling_ae_title",
)
_IDENTITY: Final = ("patient_id", "issuer_of_patient_id")
_OF_PATIENT: Final = [column.name for column in attribute_columns(Level.PATIENT)]


class CorrectionState(StrEnum):
    """How far a correction is."""

    RUNNING = "running"
    TO_CONFIRM = "to confirm"  # all is corrected, and the old objects are kept
    CONFIRMED = "confirmed"
    UNDONE = "undone"


_ENDED: Final = (CorrectionState.CONFIRMED, CorrectionState.UNDONE)


@dataclass(frozen=True, slots=True)
class Corrected:
    """An instance and its file after a correction.

    Args:
        key: of its row.
        path: of the file that it had.
        placement: of the new one; None if the object did not change.
        character_set: what the new dataset says.
    """

    key: int
    path: str
    placement: Placement | None = None
    character_set: str = ""


class CorrectionEndedError(ArchiveError):
    """The correction was confirmed or undone."""


class StudyGoneError(LookupError):
    """The study was deleted."""


def begin(
    connection: Connection, correction_id: str, user: str, changes: Mapping[str, str]
) -> None:
    """Make the row of a correction, if it is not there.

    Raises:
        ArchiveError: it was confirmed or undone already.
    """
    values = {
        "id": correction_id,
        "state": CorrectionState.RUNNING,
        "user": user,
        "changes": json.dumps(dict(changes), ensure_ascii=False),
        "created_at": _now(),
    }
    connection.execute(insert_if_absent(correction, connection.dialect).values(values))
    require_open(connection, correction_id, "correct the study")


def require_open(connection: Connection, correction_id: str, what: str) -> None:
    """Refuse a correction that was confirmed or undone; hold one that was not, until the end.

    Args:
        what: is to be done.
    Raises:
        CorrectionEndedError: it was, maybe by another node just now.
        ArchiveError: there is none.
    """
    wanted = select(correction.c.state).where(correction.c.id == correction_id)
    state = connection.execute(wanted.with_for_update()).scalar()
    if state is None:
        raise ArchiveError(what, "there is no such correction")
    if state in _ENDED:
        raise CorrectionEndedError(what, f"the correction is {state} already")


def set_state(connection: Connection, correction_id: str, state: CorrectionState) -> None:
    """Say how far a correction is."""
    ended_at = _now() if state in _ENDED else 0
    changed = update(correction).where(correction.c.id == correction_id)
    connection.execute(changed.values(state=state, ended_at=ended_at))


def end(connection: Connection, correction_id: str) -> None:
    """Say that a correction waits for its confirmation; one without a study never was."""
    wanted = select(corrected_study.c.study_key).where(
        corrected_study.c.correction_id == correction_id
    )
    if connection.execute(wanted.limit(1)).first() is not None:
        waits = update(correction).where(
            correction.c.id == correction_id, correction.c.state.not_in(_ENDED)
        )
        connection.execute(waits.values(state=CorrectionState.TO_CONFIRM))
        return
    connection.execute(delete(correction).where(correction.c.id == correction_id))


def is_corrected(connection: Connection, correction_id: str, study_key: int) -> bool:
    """Whether a correction has changed a study already."""
    wanted = select(corrected_study.c.instances).where(
        corrected_study.c.correction_id == correction_id, corrected_study.c.study_key == study_key
    )
    return connection.execute(wanted).first() is not None


def require_correctable(connection: Connection, study_key: int) -> RowMapping:
    """The row of a study that may be corrected.

    Raises:
        StudyGoneError: there is none.
        StudyProtectedError: it is protected.
    """
    wanted = select(study).where(study.c.id == study_key)
    row = connection.execute(wanted).mappings().first()
    if row is None:
        raise StudyGoneError
    if is_protected(connection, row["study_instance_uid"]):
        raise StudyProtectedError(row["study_instance_uid"], "correct the study")
    return row


def _hold(connection: Connection, study_key: int) -> None:
    """Keep other nodes from adding to a study; what they are at now is seen afterwards."""
    of_study = select(study.c.patient_id_fk).where(study.c.id == study_key).scalar_subquery()
    for table, condition in (  # in the order of those that add
        (patient, patient.c.id == of_study),
        (study, study.c.id == study_key),
        (series, series.c.study_fk == study_key),
    ):
        held = select(table.c.id).where(condition).order_by(table.c.id)
        connection.execute(held.with_for_update()).all()


def instances_of(connection: Connection, study_key: int) -> list[RowMapping]:
    """The rows of a study's instances."""
    below = instance.join(series, instance.c.series_fk == series.c.id)
    wanted = select(instance).select_from(below).where(series.c.study_fk == study_key)
    return list(connection.execute(wanted.order_by(instance.c.id)).mappings())


def apply(
    connection: Connection,
    correction_id: str,
    study_key: int,
    corrected: Sequence[Corrected],
    values: Mapping[str, str],
) -> bool:
    """Put corrected objects in the place of a study's, and keep those that were there.

    Args:
        values: what columns of the study's row become.
    Returns:
        Whether it was done; False: instances have come or changed since, and nothing is changed.
    Raises:
        As `require_correctable`.
    """
    require_open(connection, correction_id, "correct the study")
    _hold(connection, study_key)
    row = require_correctable(connection, study_key)
    now = {each["id"]: each for each in instances_of(connection, study_key)}
    if {key: each["path"] for key, each in now.items()} != {
        each.key: each.path for each in corrected
    }:
        return False
    changed = [each for each in corrected if each.placement is not None]
    _keep(connection, correction_id, row, [(now[each.key], each) for each in changed])
    _place(connection, [_new_file(each) for each in changed])
    after = {**row, **values}
    _change_study(connection, row, after, list(now))
    noted = {
        "correction_id": correction_id,
        "study_key": study_key,
        "study_instance_uid": row["study_instance_uid"],
        "before": json.dumps(dict(row), ensure_ascii=False),
        "after": json.dumps(after, ensure_ascii=False),
        "instances": len(changed),
    }
    connection.execute(insert(corrected_study).values(noted))
    return True


def undo(connection: Connection, correction_id: str) -> list[str]:
    """Put the kept objects of a correction back, unless theirs were replaced or deleted since.

    Returns:
        The files that no row refers to any longer; they are in `removal` now.
    Raises:
        StudyProtectedError: a study is protected; nothing is changed.
        ArchiveError: it has ended, or all its objects were changed since; likewise.
    """
    require_open(connection, correction_id, "undo the correction")
    kept = _kept_of(connection, correction_id)
    studies = select(corrected_study).where(corrected_study.c.correction_id == correction_id)
    rows = connection.execute(studies).mappings().all()
    for row in rows:
        if is_protected(connection, row["study_instance_uid"]):
            raise StudyProtectedError(row["study_instance_uid"], "undo the correction")
    there = _instances(connection, [each["sop_instance_uid"] for each in kept])
    unused: list[str] = []
    back: dict[str, list[int]] = {}
    files: list[dict[str, Any]] = []
    for each in kept:
        found = there.get(each["sop_instance_uid"])
        if found is None or found["path"] != each["new_path"]:
            unused.append(each["path"])
            continue
        unused.append(each["new_path"])
        files.append({"key": found["id"], **{name: each[name] for name in _FILE_COLUMNS}})
        back.setdefault(each["study_instance_uid"], []).append(found["id"])
    if kept and not files and there:
        reason = "its objects have changed since"
        raise ArchiveError("undo the correction", reason, "undo what came later, or confirm it")
    _place(connection, files)
    for row in rows:
        if keys := back.get(row["study_instance_uid"]):
            _restore(connection, row, keys)
    _forget(connection, correction_id, unused)
    set_state(connection, correction_id, CorrectionState.UNDONE)
    return unused


def kept_paths(connection: Connection, correction_id: str) -> list[str]:
    """The files that are kept of a correction."""
    return [each["path"] for each in _kept_of(connection, correction_id)]


def confirm(connection: Connection, correction_id: str) -> list[str]:
    """Give up the kept objects of a correction.

    Returns:
        Their files, which are in `removal` now.
    Raises:
        ArchiveError: it has ended.
    """
    require_open(connection, correction_id, "confirm the correction")
    unused = [each["path"] for each in _kept_of(connection, correction_id)]
    _forget(connection, correction_id, unused)
    set_state(connection, correction_id, CorrectionState.CONFIRMED)
    return unused


# Files


def _keep(
    connection: Connection,
    correction_id: str,
    row: RowMapping,
    changed: Sequence[tuple[RowMapping, Corrected]],
) -> None:
    kept = [
        {
            "sop_instance_uid": old["sop_instance_uid"],
            "study_instance_uid": row["study_instance_uid"],
            "correction_id": correction_id,
            "new_path": new.placement.path if new.placement else "",
            "kept_at": _now(),
            **{name: old[name] for name in _FILE_COLUMNS},
        }
        for old, new in changed
    ]
    if kept:
        connection.execute(insert(kept_object), kept)


def _new_file(each: Corrected) -> dict[str, Any]:
    assert each.placement is not None  # noqa: S101 - the caller has looked
    placed = {name: getattr(each.placement, name, "") for name in _FILE_COLUMNS}
    return {**placed, "key": each.key, "dataset_character_set": each.character_set}


def _place(connection: Connection, files: Sequence[Mapping[str, Any]]) -> None:
    """Give instances other files."""
    if not files:
        return
    values: dict[str, Any] = {name: bindparam(f"new_{name}") for name in _FILE_COLUMNS}
    changed = update(instance).where(instance.c.id == bindparam("key")).values(values)
    rows = [
        {"key": each["key"], **{f"new_{name}": each[name] for name in _FILE_COLUMNS}}
        for each in files
    ]
    connection.execute(changed, rows)


def _kept_of(connection: Connection, correction_id: str) -> list[RowMapping]:
    wanted = select(kept_object).where(kept_object.c.correction_id == correction_id)
    return list(connection.execute(wanted.order_by(kept_object.c.id)).mappings())


def _instances(connection: Connection, uids: Sequence[str]) -> dict[str, RowMapping]:
    found: dict[str, RowMapping] = {}
    for piece in pieces_of(uids):
        wanted = select(instance).where(instance.c.sop_instance_uid.in_(piece))
        rows = connection.execute(wanted.with_for_update()).mappings()
        found.update((row["sop_instance_uid"], row) for row in rows)
    return found


def _forget(connection: Connection, correction_id: str, unused: Sequence[str]) -> None:
    note_removals(connection, unused)
    connection.execute(delete(kept_object).where(kept_object.c.correction_id == correction_id))


# Studies and patients


def _restore(connection: Connection, row: RowMapping, keys: Sequence[int]) -> None:
    """Give a study back what a correction has changed, and its objects their study."""
    before, after = json.loads(row["before"]), json.loads(row["after"])
    below = instance.join(series, instance.c.series_fk == series.c.id).join(study)
    wanted = select(study).select_from(below).where(instance.c.id == keys[0])
    now = connection.execute(wanted).mappings().one()
    is_of_other = any(before[name] != after[name] for name in _IDENTITY)
    # Of another patient it is another study, of which all is needed.
    values = {name: before[name] for name in before if is_of_other or before[name] != after[name]}
    _change_study(connection, now, {**now, **values}, keys)


def _change_study(
    connection: Connection, row: RowMapping, after: Mapping[str, Any], keys: Sequence[int]
) -> None:
    """Change a study's row, which gets another patient if its Patient ID or issuer changes.

    Args:
        keys: of the instances that are meant.
    """
    _hold(connection, row["id"])
    values = {name: after[name] for name in after if name not in ("id", "patient_id_fk")}
    patient_key = _patient(connection, values)
    if patient_key == row["patient_id_fk"]:
        connection.execute(update(study).where(study.c.id == row["id"]).values(values))
        _look_again(connection, row["id"])
    else:
        target = _study_below(connection, patient_key, values)
        _move(connection, keys, target)
        _drop_empty(connection, row["id"], row["patient_id_fk"])
        _look_again(connection, target)
    settle_patients(connection, {patient_key, row["patient_id_fk"]})


def _patient(connection: Connection, values: Mapping[str, Any]) -> int:
    """The patient that a study with these values has, made when it is new."""
    only_study_uid = "" if values["patient_id"] else values["study_instance_uid"]
    identity = {name: values[name] for name in _IDENTITY}
    identity["only_study_uid"] = only_study_uid
    wanted = select(patient.c.id).where(
        *(patient.c[name] == value for name, value in identity.items())
    )
    found = connection.execute(wanted.with_for_update()).scalar()
    if found is None:
        own = {name: values[name] for name in _OF_PATIENT}
        made = insert_if_absent(patient, connection.dialect).values({**own, **identity})
        connection.execute(made)
        found = connection.execute(wanted.with_for_update()).scalar_one()
    return int(found)


def _study_below(connection: Connection, patient_key: int, values: Mapping[str, Any]) -> int:
    """The study of a patient, made when it is new."""
    made = insert_if_absent(study, connection.dialect)
    connection.execute(made.values({**values, "patient_id_fk": patient_key}))
    wanted = select(study.c.id).where(
        study.c.study_instance_uid == values["study_instance_uid"],
        study.c.patient_id_fk == patient_key,
    )
    return int(connection.execute(wanted.with_for_update()).scalar_one())


def _move(connection: Connection, keys: Sequence[int], study_key: int) -> None:
    """Move instances to another study, into series of the same UIDs.

    The series get rows of their own: processes remember the keys of others, and must not add to
    them.
    """
    for piece in pieces_of(keys):
        wanted = select(instance.c.series_fk).where(instance.c.id.in_(piece)).distinct()
        for old in connection.execute(wanted).scalars().all():
            new = _series_below(connection, old, study_key)
            moved = update(instance).where(instance.c.id.in_(piece), instance.c.series_fk == old)
            connection.execute(moved.values(series_fk=new))


def _series_below(connection: Connection, series_key: int, study_key: int) -> int:
    row = connection.execute(select(series).where(series.c.id == series_key)).mappings().one()
    values = {name: row[name] for name in row if name not in ("id", "study_fk")}
    made = insert_if_absent(series, connection.dialect)
    connection.execute(made.values({**values, "study_fk": study_key}))
    wanted = select(series.c.id).where(
        series.c.series_instance_uid == row["series_instance_uid"], series.c.study_fk == study_key
    )
    return int(connection.execute(wanted).scalar_one())


def _drop_empty(connection: Connection, study_key: int, patient_key: int) -> None:
    """Remove the series of a study, the study and its patient if nothing is in them any longer."""
    empty = ~exists().where(instance.c.series_fk == series.c.id)
    connection.execute(delete(series).where(series.c.study_fk == study_key, empty))
    empty = ~exists().where(series.c.study_fk == study.c.id)
    connection.execute(delete(study).where(study.c.id == study_key, empty))
    empty = ~exists().where(study.c.patient_id_fk == patient.c.id)
    connection.execute(delete(patient).where(patient.c.id == patient_key, empty))


def _look_again(connection: Connection, study_key: int) -> None:
    """Have the objects of a study read, if they contradicted each other."""
    wanted = select(study.c.has_conflict).where(study.c.id == study_key)
    if connection.execute(wanted).scalar():
        made = insert_if_absent(unread_study, connection.dialect)
        connection.execute(made.values(study_fk=study_key, step=EVERY_OBJECT))


# Asking


def list_corrections(
    connection: Connection, *, correction_id: str = "", limit: int = 100
) -> list[dict[str, Any]]:
    """Corrections, the newest first, each with its studies and the bytes that are kept of it."""
    wanted = select(correction).order_by(correction.c.created_at.desc(), correction.c.id)
    if correction_id:
        wanted = wanted.where(correction.c.id == correction_id)
    rows = connection.execute(wanted.limit(limit)).mappings().all()
    return [_described(connection, row) for row in rows]


def _described(connection: Connection, row: RowMapping) -> dict[str, Any]:
    mine = corrected_study.c.correction_id == row["id"]
    studies = connection.execute(select(corrected_study).where(mine)).mappings().all()
    sizes = select(kept_object.c.file_size).where(kept_object.c.correction_id == row["id"])
    return {
        **row,
        "changes": json.loads(row["changes"] or "{}"),
        "studies": [
            {
                "study_instance_uid": each["study_instance_uid"],
                "instances": each["instances"],
                "before": json.loads(each["before"]),
                "after": json.loads(each["after"]),
            }
            for each in studies
        ],
        "kept_bytes": sum(connection.execute(sizes).scalars()),
    }


def _now() -> int:
    return time.time_ns() // 1_000_000
