"""Puts corrected objects of a study in the place of those that were there, and puts those back.

Rules: the rows of a study change in one transaction, so that nobody sees half a correction. The
object that was there stays in the table `kept_object` until the correction is confirmed or undone.
Functions run in a transaction of their caller.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import (
    Connection,
    RowMapping,
    bindparam,
    delete,
    insert,
    select,
    update,
)

from lfscp.archive.errors import ArchiveError, StudyProtectedError
from lfscp.archive.index.changed_studies import IDENTITY, change_study, hold_study
from lfscp.archive.index.clock_readings import wall_ms
from lfscp.archive.index.correction_states import CorrectionState, require_open, set_state
from lfscp.archive.index.protection import is_protected
from lfscp.archive.index.removal import note_removals, pieces_of
from lfscp.archive.index.tables.correction_tables import corrected_study, kept_object
from lfscp.archive.index.tables.schema import (
    instance,
    series,
    study,
)
from lfscp.archive.store.object_store import Placement

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


class StudyGoneError(LookupError):
    """The study was deleted."""


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
    hold_study(connection, study_key)
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
    change_study(connection, row, after, list(now))
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
        ArchiveError: it has ended, or not all is corrected yet; nothing is changed.
    """
    what = "confirm the correction"
    if require_open(connection, correction_id, what) is CorrectionState.RUNNING:
        raise ArchiveError(what, "it has not come to its end", "wait for it, or undo what is done")
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
            "kept_at": wall_ms(),
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


def _restore(connection: Connection, row: RowMapping, keys: Sequence[int]) -> None:
    """Give a study back what a correction has changed, and its objects their study."""
    before, after = json.loads(row["before"]), json.loads(row["after"])
    below = instance.join(series, instance.c.series_fk == series.c.id).join(study)
    wanted = select(study).select_from(below).where(instance.c.id == keys[0])
    now = connection.execute(wanted).mappings().one()
    is_of_other = any(before[name] != after[name] for name in IDENTITY)
    # Of another patient it is another study, of which all is needed.
    values = {name: before[name] for name in before if is_of_other or before[name] != after[name]}
    change_study(connection, now, {**now, **values}, keys)
