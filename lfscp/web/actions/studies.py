"""Finds, deletes and protects studies, series and instances of the archive."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from types import SimpleNamespace
from typing import Annotated, Any, Final

from fastapi import Query
from sqlalchemy import Connection

from lfscp.archive.index import browse
from lfscp.archive.store.object_store import StoredFile
from lfscp.dicom.values.attributes import Level
from lfscp.web.actions import cursors
from lfscp.web.context import Web
from lfscp.web.problems import not_found

Key = Annotated[
    int | None,
    Query(ge=0, le=cursors.MAX, description="`key` of the row, if several have this UID."),
]

STUDY_CURSOR: Final = (str, str, int)  # types of the values of a cursor
PATIENT_CURSOR: Final = (str, int)
INSTANCE_CURSOR: Final = (int, int)


def file_of(web: Web, row: dict[str, Any]) -> StoredFile:
    """The file of an instance.

    Args:
        row: from `instance_row`.
    """
    return web.archive.files.file_of(SimpleNamespace(**row))


def study_row(web: Web, study_uid: str, key: int | None = None) -> dict[str, Any]:
    """One study by its UID, and by its row's key where several have it.

    Raises:
        Problem: it does not exist.
    """
    return _row(web, "study", partial(browse.study_row, key=key), study_uid)


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
    return _row(web, "instance", browse.instance_row, instance_uid)


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
    study_row(web, study_uid, key)
    web.archive.set_protected(study_uid, on=on)
    return study_row(web, study_uid, key)


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
