"""Finds, deletes, protects and labels studies, series and instances of the archive."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from errno import ENOENT
from functools import partial
from http import HTTPStatus
from pathlib import Path
from types import SimpleNamespace
from typing import Annotated, Any, Final, TypeVar

from fastapi import Query
from sqlalchemy import Connection

from lfscp.archive.index.browsing import browse, study_pages
from lfscp.archive.index.browsing.study_filter import StudyFilter
from lfscp.archive.index.labels import LabelError, add_label, checked_label, remove_label
from lfscp.archive.store.bucket.remote_object import RemoteObject
from lfscp.archive.store.object_store import StoredFile
from lfscp.archive.store.received_objects import StoredInstance, is_as_selected
from lfscp.dicom.values.attributes import Level
from lfscp.observe import audit
from lfscp.services.audit_events import patients_of
from lfscp.web.actions import cursors
from lfscp.web.actions.study_query import keys_of
from lfscp.web.context import Web
from lfscp.web.imaging.errors import MissingFileError
from lfscp.web.problems import Problem, not_found

Key = Annotated[
    int | None,
    Query(ge=0, le=cursors.MAX, description="`key` of the row, if several have this UID."),
]

T = TypeVar("T")
PATIENT_CURSOR: Final = (str, int)  # types of the values of a cursor
INSTANCE_CURSOR: Final = (int, int)


def file_of(web: Web, row: dict[str, Any]) -> StoredFile:
    """The file of an instance.

    Args:
        row: from `instance_row`.
    """
    return web.archive.files.file_of(SimpleNamespace(**row))


def of_file(
    web: Web, instance_uid: str, how: str, read: Callable[[StoredFile], T]
) -> tuple[dict[str, Any], T]:
    """What is read of the file of an instance, which is noted as seen; its row comes first.

    Of one that was replaced just now it is read again, by the row that there is now.

    Args:
        how: it is seen, for the audit trail.
    Raises:
        Problem: it does not exist.
        Exception: what `read` raises.
    """
    row = instance_row(web, instance_uid)
    web.views.note(row["study_instance_uid"], how, row["study_key"])
    try:
        return row, read(file_of(web, row))
    except (FileNotFoundError, MissingFileError):
        row = instance_row(web, instance_uid)
        return row, read(file_of(web, row))


def still_there(web: Web, instance: StoredInstance) -> StoredInstance:
    """An object that was selected a while ago, as it is in the archive now.

    Of a file of this machine it is enough that it is there, with the same length. An object in a
    bucket may have copies here although another node has deleted it.

    Raises:
        FileNotFoundError: it was deleted, or is in another study or series now.
    """
    if isinstance(instance.path, Path) and is_as_selected(instance):
        return instance
    row = web.archive.index.lookups.instance_row(instance.sop_instance_uid)
    if row is None or _place_of(row) != (instance.study_uid, instance.series_uid):
        raise FileNotFoundError(ENOENT, "the object was deleted meanwhile", str(instance.path))
    file = file_of(web, row)
    if _is_same(file, instance.path):
        return instance  # the list that it stands in reads the next ones ahead
    return replace(
        instance,
        path=file,
        **{each: row[each] for each in ("transfer_syntax_uid", "dataset_offset", "size")},
    )


def _place_of(row: dict[str, Any]) -> tuple[str, str]:
    return row["study_instance_uid"], row["series_instance_uid"]


def _is_same(one: StoredFile, other: StoredFile) -> bool:
    """Whether it is the same version of an object in a bucket."""
    if isinstance(one, RemoteObject) and isinstance(other, RemoteObject):
        return one.identity == other.identity
    return False


def study_row(web: Web, study_uid: str, key: int | None = None) -> dict[str, Any]:
    """One study by its UID, and by its row's key where several have it.

    Raises:
        Problem: it does not exist.
    """
    return _row(web, "study", partial(browse.study_row, key=key), study_uid)


def is_there(web: Web, study_uid: str, key: int) -> bool:
    """Whether a study is in the archive."""
    with web.index() as connection:
        return browse.study_row(connection, study_uid, key) is not None


def series_row(web: Web, series_uid: str, key: int | None = None) -> dict[str, Any]:
    """One series by its UID, and by its row's key where several have it.

    Raises:
        Problem: it does not exist.
    """
    return _row(web, "series", partial(browse.series_row, key=key), series_uid)


def instance_row(web: Web, instance_uid: str) -> dict[str, Any]:
    """One instance by its UID.

    Raises:
        Problem: it does not exist.
    """
    row = web.archive.index.lookups.instance_row(instance_uid)
    if row is None:
        raise not_found("instance", instance_uid)
    return row


def _row(
    web: Web, what: str, find: Callable[[Connection, str], dict[str, Any] | None], uid: str
) -> dict[str, Any]:
    with web.index() as connection:
        row = find(connection, uid)
    if row is None:
        raise not_found(what, uid)
    return row


def set_protected(web: Web, study_uid: str, key: int | None, *, on: bool) -> dict[str, Any]:
    """Protect a study, or end its protection; a wrong key changes nothing.

    Raises:
        Problem: it does not exist.
    """
    before = study_row(web, study_uid, key)
    web.archive.set_protected(study_uid, on=on)
    if before["is_protected"] != on:
        _record(web, [study_uid], {"what": "protected" if on else "no longer protected"})
    return study_row(web, study_uid, key)


def _record(web: Web, study_uids: Iterable[str], details: Mapping[str, str]) -> None:
    """Write into the audit trail what was changed about studies."""
    if not audit.is_on():
        return
    for uid in study_uids:
        for patient in patients_of(web.archive, uid) or (None,):
            audit.changed(uid, details, patient)


def delete(
    web: Web, level: Level, uid: str, key: int | None = None, *, missing_ok: bool = False
) -> int:
    """Delete instances with their rendered pictures and metadata; returns how many there were.

    Raises:
        Problem: nothing has this UID, unless `missing_ok`.
    """
    instances = web.archive.select(level, {level: [uid]})
    uids = [each.sop_instance_uid for each in instances]
    of_series = {(each.study_uid, each.series_uid) for each in instances}
    deleted = web.archive.delete(level, uid, key=key)
    web.renderer.forget(uids)
    for series in of_series:
        web.series_metadata.forget(*series)
    if not deleted and not missing_ok:
        raise not_found({Level.IMAGE: "instance"}.get(level, level.lower()), uid)
    return deleted


def selected(web: Web, select: str) -> list[dict[str, Any]]:
    """The studies of a selection, as `study_row` gives them.

    Args:
        select: keys with dots between them.
    Raises:
        Problem: nothing is selected, or all of it is gone.
    """
    keys = keys_of(select)
    with web.index() as connection:
        rows = study_pages.studies(connection, StudyFilter(keys=keys), limit=len(keys)).rows
    if not rows:
        raise Problem(HTTPStatus.NOT_FOUND, "the selected studies are not in the archive any more")
    return rows


def delete_selected(web: Web, rows: Sequence[dict[str, Any]]) -> int:
    """Delete studies; returns how many instances they had.

    Args:
        rows: from `selected`.
    Raises:
        Problem: one is protected; then none is deleted.
    """
    protected = sum(row["is_protected"] for row in rows)
    if protected:
        detail = f"{protected} of these studies are protected; end their protection first"
        raise Problem(HTTPStatus.CONFLICT, detail)
    deleted = 0
    for row in rows:
        uid, key = row["study_instance_uid"], row["id"]
        deleted += delete(web, Level.STUDY, uid, key, missing_ok=True)
    return deleted


def set_label(web: Web, study_uids: Sequence[str], label: str, *, on: bool) -> str:
    """Give studies a label, or take it from them; returns it as it is stored.

    Raises:
        Problem: it is no label, a study has too many, or none of the studies exists.
        ArchiveError: the index cannot be written to.
    """
    index = web.archive.index
    try:
        checked = checked_label(label)
        with index.doing("write to the index"):
            labelled = add_label(index, study_uids, checked) if on else []
            if on and not labelled:
                raise not_found("study", study_uids[0])
            if not on and remove_label(index, study_uids, checked):
                labelled = list(study_uids)
    except LabelError as error:
        raise Problem(HTTPStatus.UNPROCESSABLE_ENTITY, str(error)) from None
    _record(web, labelled, {"what": "labelled" if on else "label taken away", "label": checked})
    return checked
