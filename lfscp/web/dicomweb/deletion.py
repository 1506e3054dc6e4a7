"""Answers DELETE of a study, series or instance; PS3.18 has no such transaction, other archives do.

Rules: the whole path counts: a series or an instance that is in another study is not there. A
study that is protected stays.
"""

from __future__ import annotations

from http import HTTPStatus

from fastapi import APIRouter, Response

from lfscp.archive.index.browsing import browse
from lfscp.dicom.values.attributes import Level
from lfscp.web.actions.studies import delete, instance_row
from lfscp.web.context import Context
from lfscp.web.dicomweb.addresses import PREFIX, UID
from lfscp.web.problems import not_found

router = APIRouter(prefix=PREFIX, include_in_schema=False)
_STUDY = "/studies/{study}"
_SERIES = _STUDY + "/series/{series}"


@router.delete(_STUDY)
def delete_study(web: Context, study: UID) -> Response:
    """Delete a study with all its instances."""
    delete(web, Level.STUDY, study)
    return _deleted()


@router.delete(_SERIES)
def delete_series(web: Context, study: UID, series: UID) -> Response:
    """Delete a series with all its instances."""
    with web.index() as connection:
        keys = browse.series_keys(connection, study, series)
    if not keys:
        raise not_found("series", series)
    for key in keys:
        delete(web, Level.SERIES, series, key, missing_ok=True)
    return _deleted()


@router.delete(_SERIES + "/instances/{instance}")
def delete_instance(web: Context, study: UID, series: UID, instance: UID) -> Response:
    """Delete one instance."""
    row = instance_row(web, instance)
    if (row["study_instance_uid"], row["series_instance_uid"]) != (study, series):
        raise not_found("instance", instance)
    delete(web, Level.IMAGE, instance)
    return _deleted()


def _deleted() -> Response:
    return Response(status_code=HTTPStatus.NO_CONTENT)
