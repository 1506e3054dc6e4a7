"""The rows of performed procedure steps: made of a dataset and read, and what a search compares."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, Row, or_, select

from lfscp.archive.index.tables.workflow_tables import procedure_step
from lfscp.archive.workflow.procedure_steps.table import PERFORMED_SERIES, SCHEDULED_STEPS
from lfscp.archive.workflow.worklist.item import (
    ACCESSION_NUMBER,
    MODALITY,
    PATIENT_ID,
    PATIENT_NAME,
    STUDY_INSTANCE_UID,
)
from lfscp.dicom.models.element_tree import Tree, read_own
from lfscp.dicom.values.person_names import search_form

_MAX_COLUMN: Final = 200  # characters; the database's own indexes take no long ones
_REFERENCES: Final = (0x00081140, 0x00400220)  # to images, and to other objects
_REFERENCED_UID: Final = 0x00081155
_COLUMNS: Final = {
    "patient_id": PATIENT_ID,
    "patient_name": PATIENT_NAME,
    "modality": MODALITY,
    "station_ae_title": 0x00400241,
    "start_date": 0x00400244,
    "start_time": 0x00400245,
}


@dataclass(frozen=True, slots=True)
class ProcedureStep:
    """A performed procedure step.

    Args:
        status: IN PROGRESS, COMPLETED or DISCONTINUED.
        created_at: in ms since 1970 UTC; `updated_at` likewise.
    """

    id: int
    sop_instance_uid: str
    status: str
    dataset: Tree
    calling_ae_title: str
    created_at: int
    updated_at: int


def find_row(
    connection: Connection, sop_instance_uid: str, *, for_update: bool = False
) -> Row[Any] | None:
    """The row of a step; None when there is none.

    Args:
        for_update: hold it against other transactions until the end of this one.
    """
    wanted = select(procedure_step).where(procedure_step.c.sop_instance_uid == sop_instance_uid)
    # SQLite knows no FOR UPDATE, and has one writer.
    return connection.execute(wanted.with_for_update() if for_update else wanted).first()


def step_of(row: Row[Any]) -> ProcedureStep:
    """The step of a row."""
    return ProcedureStep(
        row.id,
        row.sop_instance_uid,
        row.status,
        read_own(bytes(row.dataset)),
        row.calling_ae_title,
        row.created_at,
        row.updated_at,
    )


def columns_of(dataset: Tree) -> dict[str, str]:
    """What is searched for, and what a list shows."""
    scheduled = next(iter(dataset.sequence(SCHEDULED_STEPS)), Tree())
    values = {name: dataset.text(tag) for name, tag in _COLUMNS.items()}
    values["patient_name_search"] = search_form(values["patient_name"])
    values["study_instance_uid"] = study_uid_of(dataset)
    values["accession_number"] = scheduled.text(ACCESSION_NUMBER)
    return {name: kept(value) for name, value in values.items()}


def kept(text: str) -> str:
    """Text as a column keeps it."""
    return text[:_MAX_COLUMN].replace("\0", "\ufffd")  # PostgreSQL's text takes no NUL


def study_uid_of(dataset: Tree) -> str:
    """The Study Instance UID of the first study that a step is for; empty if it names none."""
    scheduled = next(iter(dataset.sequence(SCHEDULED_STEPS)), Tree())
    return scheduled.text(STUDY_INSTANCE_UID)


def referenced(dataset: Tree) -> Iterator[str]:
    """The SOP Instance UIDs of the objects that a step names, in its order."""
    for series in dataset.sequence(PERFORMED_SERIES):
        for tag in _REFERENCES:
            for reference in series.sequence(tag):
                yield reference.text(_REFERENCED_UID)


def names(word: str) -> ColumnElement[bool]:
    """Whether a word of a search is about a step."""
    columns = procedure_step.c
    return or_(
        columns.patient_name_search.contains(search_form(word), autoescape=True),
        columns.patient_id.startswith(word, autoescape=True),
        columns.accession_number.startswith(word, autoescape=True),
        columns.study_instance_uid == word,
        columns.sop_instance_uid == word,
    )
