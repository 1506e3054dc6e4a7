"""Answers requests for the local archive: list, read, delete, protect, count."""

from __future__ import annotations

from dataclasses import asdict
from functools import partial
from http import HTTPStatus
from typing import Annotated, TypeVar

from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi import Path as InPath
from fastapi.responses import FileResponse, StreamingResponse
from pydantic import AfterValidator, BaseModel

from lfscp.archive.errors import ArchiveError
from lfscp.archive.index.browsing import browse, study_pages
from lfscp.archive.index.browsing.study_filter import StudyFilter
from lfscp.archive.index.browsing.text_search import require_short_words
from lfscp.archive.index.removal import require_unprotected
from lfscp.archive.index.tables.schema import patient
from lfscp.dicom.values.attributes import Level
from lfscp.jobs.file_sets.package import package
from lfscp.web.actions import cursors
from lfscp.web.actions.deidentified import DeidentifyIn, deidentified_zip
from lfscp.web.actions.packages import zip_answer
from lfscp.web.actions.studies import (
    INSTANCE_CURSOR,
    PATIENT_CURSOR,
    Key,
    delete,
    instance_row,
    of_file,
    selected,
    series_row,
    set_label,
    set_protected,
    study_row,
)
from lfscp.web.actions.study_query import MAX_SELECTED, Selected, StudyQuery
from lfscp.web.actions.study_table import study_table
from lfscp.web.api.models import (
    DeletedOut,
    ElementOut,
    InstanceOut,
    LabelsOut,
    PageOut,
    PatientOut,
    SeriesOut,
    StatisticsOut,
    StudiesOut,
    StudyOut,
)
from lfscp.web.api.opened_file import OpenedFile
from lfscp.web.client_watch import Watch
from lfscp.web.context import Context, PictureTurn
from lfscp.web.imaging.errors import MISSING, NoPictureError
from lfscp.web.problems import Problem, not_found
from lfscp.web.rendering.elements import MAX_ELEMENTS
from lfscp.web.rendering.responses import no_picture, response_of

router = APIRouter(prefix="/api", tags=["archive"])
Row = TypeVar("Row", bound=BaseModel)

Limit = Annotated[int, Query(ge=1, le=browse.MAX_PAGE, description="Rows of a page.")]
Text = Annotated[str, AfterValidator(require_short_words)]
Asked = Annotated[StudyQuery, Depends()]
After = Annotated[str | None, Query(description="`next` of the previous page.")]
Date = Annotated[str, Query(pattern=r"^(\d{8})?$", description="YYYYMMDD.")]
StudyUIDs = Query(max_length=MAX_SELECTED, description="Study Instance UIDs.")
Counted = Query(description="Whether to count the matches.")


def _page(model: type[Row], page: browse.Page) -> PageOut[Row]:
    rows = [model.model_validate(row) for row in page.rows]
    return PageOut(rows=rows, next=cursors.to_text(page.next))


@router.get("/patients")
def patients(
    web: Context, q: Text = "", after: After = None, limit: Limit = 50
) -> PageOut[PatientOut]:
    """Patients by name; `q` is part of a name or the beginning of a Patient ID."""
    with web.index() as connection:
        page = browse.patients(
            connection, q, after=cursors.from_text(after, PATIENT_CURSOR), limit=limit
        )
    return _page(PatientOut, page)


@router.get("/studies")
def studies(
    web: Context, asked: Asked, limit: Limit = 50, count: Annotated[bool, Counted] = False
) -> StudiesOut:
    """Studies, by default the newest first."""
    with web.index() as connection:
        search = asked.search(connection)
        page = asked.page_of(search, limit)
        counted = search.count() if count else None
    return StudiesOut(
        rows=[StudyOut.model_validate(row) for row in page.rows],
        next=cursors.to_text(page.next),
        previous=cursors.to_text(page.previous),
        count=counted,
    )


@router.get("/studies.csv", response_class=StreamingResponse)
def studies_csv(web: Context, asked: Asked) -> StreamingResponse:
    """The studies as a table (CSV, UTF-8): those that are selected, or else all that match."""
    headers = {"Content-Disposition": 'attachment; filename="studies.csv"'}
    media_type = "text/csv; charset=utf-8"
    return StreamingResponse(study_table(web, asked), media_type=media_type, headers=headers)


@router.get("/zip", response_class=StreamingResponse)
def studies_zip(
    web: Context,
    watch: Watch,
    study: Annotated[list[str], StudyUIDs] = [],  # noqa: B006 - FastAPI copies it
    select: Selected = "",
) -> StreamingResponse:
    """Several studies, by UID or `key`, as one ZIP with a DICOMDIR."""
    rows = [study_row(web, uid) for uid in study]
    if select or not study:
        rows += selected(web, select)
    uids = list(dict.fromkeys(row["study_instance_uid"] for row in rows))
    answer = zip_answer(lambda: package(web.archive, uids, look=watch.look), "studies")
    for uid in uids:
        web.views.note(uid, "ZIP")
    return answer


@router.get("/labels")
def labels(web: Context) -> LabelsOut:
    """The labels that studies have."""
    with web.index() as connection:
        return LabelsOut(labels=study_pages.labels(connection))


@router.get("/studies/{study_uid}")
def study(web: Context, study_uid: str, key: Key = None) -> StudyOut:
    """One study."""
    return StudyOut.model_validate(study_row(web, study_uid, key))


@router.get("/studies/{study_uid}/zip", response_class=StreamingResponse)
def study_zip(web: Context, watch: Watch, study_uid: str) -> StreamingResponse:
    """A study as a ZIP with a DICOMDIR; all studies that have this UID."""
    study_row(web, study_uid)
    pack = partial(package, web.archive, [study_uid], look=watch.look)
    answer = zip_answer(pack, f"study-{study_uid}")
    web.views.note(study_uid, "ZIP")
    return answer


@router.post("/studies/{study_uid}/deidentify", response_class=StreamingResponse)
def deidentified_study(
    web: Context, watch: Watch, study_uid: str, wanted: DeidentifyIn
) -> StreamingResponse:
    """A study as a ZIP without the people; what is held back is counted in HELD_BACK.txt."""
    study_row(web, study_uid)
    answer = deidentified_zip(web, study_uid, wanted, watch.look)
    web.views.note(study_uid, "de-identified ZIP")
    return answer


@router.get("/studies/{study_uid}/series")
def series_of(web: Context, study_uid: str, key: Key = None) -> list[SeriesOut]:
    """The series of a study."""
    row = study_row(web, study_uid, key)
    with web.index() as connection:
        rows = browse.series_of(connection, row["id"])
    return [SeriesOut.model_validate(row) for row in rows]


@router.get("/studies/{study_uid}/labels")
def labels_of_study(web: Context, study_uid: str) -> LabelsOut:
    """The labels of a study."""
    return LabelsOut(labels=study_row(web, study_uid)["labels"])


@router.put("/studies/{study_uid}/labels/{label}")
def add_label(web: Context, study_uid: str, label: str) -> StudyOut:
    """Give a study a label."""
    set_label(web, [study_uid], label, on=True)
    return StudyOut.model_validate(study_row(web, study_uid))


@router.delete("/studies/{study_uid}/labels/{label}")
def remove_label(web: Context, study_uid: str, label: str) -> StudyOut:
    """Take a label from a study."""
    set_label(web, [study_uid], label, on=False)
    return StudyOut.model_validate(study_row(web, study_uid))


@router.get("/series/{series_uid}")
def series(web: Context, series_uid: str, key: Key = None) -> SeriesOut:
    """One series."""
    return SeriesOut.model_validate(series_row(web, series_uid, key))


@router.get("/series/{series_uid}/zip", response_class=StreamingResponse)
def series_zip(web: Context, watch: Watch, series_uid: str) -> StreamingResponse:
    """A series as a ZIP with a DICOMDIR; all series that have this UID."""
    row = series_row(web, series_uid)
    pack = partial(package, web.archive, [series_uid], Level.SERIES, watch.look)
    answer = zip_answer(pack, f"series-{series_uid}")
    web.views.note(row["study_instance_uid"], "ZIP", row["study_fk"])
    return answer


@router.get("/series/{series_uid}/instances")
def instances_of(
    web: Context, series_uid: str, key: Key = None, after: After = None, limit: Limit = 200
) -> PageOut[InstanceOut]:
    """The instances of a series, by number."""
    row = series_row(web, series_uid, key)
    with web.index() as connection:
        page = browse.instances_of(
            connection, row["id"], after=cursors.from_text(after, INSTANCE_CURSOR), limit=limit
        )
    return _page(InstanceOut, page)


@router.get("/instances/{instance_uid}")
def instance(web: Context, instance_uid: str) -> InstanceOut:
    """One instance."""
    return InstanceOut.model_validate(instance_row(web, instance_uid))


@router.get(
    "/instances/{instance_uid}/elements",
    response_model=list[ElementOut],
    dependencies=[PictureTurn],
)
def instance_elements(
    request: Request,
    web: Context,
    instance_uid: str,
    first: Annotated[int, Query(ge=0, description="The first element, counted from 0.")] = 0,
) -> Response:
    """The elements of an instance without its pixel data, sequences item by item.

    If there are more elements, the header `Link` names the next page.
    """
    try:
        _, (found, following) = of_file(
            web,
            instance_uid,
            "elements",
            lambda file: web.renderer.elements(file, instance_uid, first, MAX_ELEMENTS),
        )
    except NoPictureError as error:
        raise no_picture(error, HTTPStatus.UNPROCESSABLE_ENTITY) from None
    headers = {}
    if following is not None:
        headers["Link"] = f'<{request.url.path}?first={following}>; rel="next"'
    return response_of(found, "application/json", headers)


@router.get("/instances/{instance_uid}/zip", response_class=StreamingResponse)
def instance_zip(web: Context, watch: Watch, instance_uid: str) -> StreamingResponse:
    """One instance as a ZIP with a DICOMDIR."""
    row = instance_row(web, instance_uid)
    pack = partial(package, web.archive, [instance_uid], Level.IMAGE, watch.look)
    answer = zip_answer(pack, f"instance-{instance_uid}")
    web.views.note(row["study_instance_uid"], "ZIP", row["study_key"])
    return answer


@router.get("/instances/{instance_uid}/file", response_class=FileResponse)
def instance_file(web: Context, instance_uid: str) -> FileResponse:
    """The DICOM file as it is stored."""
    name = f"{instance_uid}.dcm"
    try:
        _, answer = of_file(
            web, instance_uid, "file", lambda file: OpenedFile(file, "application/dicom", name)
        )
    except FileNotFoundError:
        raise Problem(410, MISSING) from None
    except OSError as error:
        raise ArchiveError("read the object", error.strerror or str(error)) from None
    return answer


@router.delete("/patients/{key}")
def delete_patient(web: Context, key: Annotated[int, InPath(ge=0, le=cursors.MAX)]) -> DeletedOut:
    """Delete a patient, given by `id`, with all studies; nothing, if a study is protected."""
    with web.index() as connection:
        require_unprotected(connection, patient.c.id == key)
    deleted = 0
    while True:
        with web.index() as connection:
            page = study_pages.studies(connection, StudyFilter(patient_key=key), limit=100)
        if not page.rows:
            break
        for row in page.rows:
            uid, key_of_study = row["study_instance_uid"], row["id"]
            deleted += delete(web, Level.STUDY, uid, key_of_study, missing_ok=True)
    if not deleted:
        raise not_found("patient", str(key))
    return DeletedOut(deleted=deleted)


@router.delete("/studies/{study_uid}")
def delete_study(web: Context, study_uid: str, key: Key = None) -> DeletedOut:
    """Delete a study with all its instances; without `key`, all studies with this UID."""
    return DeletedOut(deleted=delete(web, Level.STUDY, study_uid, key))


@router.put("/studies/{study_uid}/protection")
def protect_study(web: Context, study_uid: str, key: Key = None) -> StudyOut:
    """Protect a study: it cannot be deleted, nor its instances replaced, and retention keeps it."""
    return StudyOut.model_validate(set_protected(web, study_uid, key, on=True))


@router.delete("/studies/{study_uid}/protection")
def unprotect_study(web: Context, study_uid: str, key: Key = None) -> StudyOut:
    """End the protection of a study."""
    return StudyOut.model_validate(set_protected(web, study_uid, key, on=False))


@router.delete("/series/{series_uid}")
def delete_series(web: Context, series_uid: str, key: Key = None) -> DeletedOut:
    """Delete a series with all its instances; without `key`, all series with this UID."""
    return DeletedOut(deleted=delete(web, Level.SERIES, series_uid, key))


@router.delete("/instances/{instance_uid}")
def delete_instance(web: Context, instance_uid: str) -> DeletedOut:
    """Delete one instance."""
    return DeletedOut(deleted=delete(web, Level.IMAGE, instance_uid))


@router.get("/statistics")
def statistics(web: Context) -> StatisticsOut:
    """The size of the archive; counted again every few seconds at most."""
    return StatisticsOut.model_validate(asdict(web.counts.now()))
