"""Keeps the performed procedure steps of modalities: made, changed until they end, and found.

Rules: what a method has done is committed when it returns. A step and what it changes in the
worklist change together. Of two requests at once on one step, the second sees what the first one
did. A step has its dataset whole; the columns beside it are what is searched for.
Source: PS3.4 annex F.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final, TypeVar

from sqlalchemy import ColumnElement, Connection, Row, func, insert, or_, select, update

from lfscp.archive.index.removal import pieces_of
from lfscp.archive.index.schema import instance
from lfscp.archive.index.workflow_tables import procedure_step
from lfscp.archive.workflow.procedure_steps.errors import (
    DuplicateStepError,
    StepEndedError,
    UnknownStepError,
)
from lfscp.archive.workflow.procedure_steps.rules import (
    FINAL,
    IN_PROGRESS,
    changed,
    check_creation,
    fault_of,
)
from lfscp.archive.workflow.procedure_steps.table import PERFORMED_SERIES, SCHEDULED_STEPS, STATUS
from lfscp.archive.workflow.worklist.worklist import Worklist
from lfscp.dicom.element_tree import Tree, encode_tree, read_tree
from lfscp.dicom.person_names import search_form
from lfscp.dicom.transfer_syntaxes import EXPLICIT_VR_LITTLE_ENDIAN

if TYPE_CHECKING:
    from lfscp.archive.index.index import Index

MAX_PAGE: Final = 500
MAX_WORDS: Final = 20
_MAX_COLUMN: Final = 200  # characters; the database's own indexes take no long ones
_ESCAPE: Final = "\\"
_REFERENCES: Final = (0x00081140, 0x00400220)  # to images, and to other objects
_REFERENCED_UID: Final = 0x00081155
_STUDY_UID: Final = 0x0020000D
_ACCESSION_NUMBER: Final = 0x00080050
_STEP_ID: Final = 0x00400009
_STARTED: Final = "STARTED"
_COLUMNS: Final = {
    "patient_id": 0x00100020,
    "patient_name": 0x00100010,
    "modality": 0x00080060,
    "station_ae_title": 0x00400241,
    "start_date": 0x00400244,
    "start_time": 0x00400245,
}
_Result = TypeVar("_Result")


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


class ProcedureSteps:
    """The steps in an index. Any thread may call any method.

    Every method raises ArchiveError when the index cannot be read or written to.
    """

    def __init__(self, index: Index) -> None:
        self._index = index
        self._worklist = Worklist(index)

    def create(self, sop_instance_uid: str, dataset: Tree, calling_ae_title: str) -> None:
        """Keep a new step, which is in progress.

        Raises:
            AttributesError: the dataset is not as the standard wants it.
            DuplicateStepError: there is one with this UID.
        """
        check_creation(dataset)
        now = _now_ms()
        row = {
            "sop_instance_uid": sop_instance_uid,
            "status": IN_PROGRESS,
            "revision": _new_revision(),
            "dataset": encode_tree(dataset),
            "calling_ae_title": _column(calling_ae_title),
            "created_at": now,
            "updated_at": now,
            **_columns(dataset),
        }

        def work(connection: Connection) -> None:
            found = _row(connection, sop_instance_uid)
            if found is None:
                connection.execute(insert(procedure_step).values(row))
                self._tell_worklist(connection, sop_instance_uid, dataset, _STARTED)
            elif found.revision != row["revision"]:  # else by an attempt whose end was not heard of
                raise DuplicateStepError

        self._transact("keep the performed procedure step", work)

    def update(self, sop_instance_uid: str, changes: Tree) -> ProcedureStep:
        """Change a step that is in progress.

        Args:
            changes: elements, each replaces the one that is there.
        Returns:
            The step as it is now.
        Raises:
            UnknownStepError: there is none with this UID.
            StepEndedError: it has ended.
            AttributesError: a change is not allowed, or the step cannot end without more.
        """
        fault = fault_of(changes)
        while True:  # again when another request was faster
            before = self._read(sop_instance_uid)
            if before is None:
                raise UnknownStepError
            if before.status in FINAL:
                raise StepEndedError
            if fault is not None:
                raise fault
            after = _changed(_step(before), changes)
            if self._replace(before, after):
                return after

    def _replace(self, before: Row[Any], after: ProcedureStep) -> bool:
        """Put a step in the place of what was read; False when that is not there any more.

        Other writers wait for the transaction: so all that takes long is done before it.
        """
        values = {
            "status": after.status,
            "revision": _new_revision(),
            "dataset": encode_tree(after.dataset),
            "updated_at": after.updated_at,
            **_columns(after.dataset),
        }

        def work(connection: Connection) -> bool:
            found = _row(connection, after.sop_instance_uid, for_update=True)
            if found is None or found.revision != before.revision:
                # It is ours when the end of an attempt was not heard of.
                return found is not None and found.revision == values["revision"]
            its_row = procedure_step.c.id == after.id
            connection.execute(update(procedure_step).where(its_row).values(values))
            if after.status in FINAL:
                self._tell_worklist(connection, after.sop_instance_uid, after.dataset, after.status)
            return True

        return self._transact("change the performed procedure step", work)

    def get(self, sop_instance_uid: str) -> ProcedureStep | None:
        """The step with a UID; None when there is none."""
        found = self._read(sop_instance_uid)
        return None if found is None else _step(found)

    def _read(self, sop_instance_uid: str) -> Row[Any] | None:
        with self._index.doing("read the index"), self._index.engine.connect() as connection:
            return _row(connection, sop_instance_uid)

    def steps(
        self,
        *,
        text: str = "",
        statuses: Collection[str] = (),
        study_uid: str = "",
        after: int = 0,
        limit: int = 100,
    ) -> list[ProcedureStep]:
        """Steps, the newest first.

        Args:
            text: words; each is in the patient's name, begins the Patient ID or the accession
                number, or is the Study Instance UID or the step's own.
            statuses: those that are wanted; none means all.
            study_uid: of the first study that the step was for.
            after: the id of the last one of the page before.
            limit: the most to give, at most MAX_PAGE.
        """
        wanted = select(procedure_step).order_by(procedure_step.c.id.desc())
        for word in text.split()[:MAX_WORDS]:
            wanted = wanted.where(_names(word))
        if statuses:
            wanted = wanted.where(procedure_step.c.status.in_(list(statuses)))
        if study_uid:
            wanted = wanted.where(procedure_step.c.study_instance_uid == study_uid)
        if after:
            wanted = wanted.where(procedure_step.c.id < after)
        wanted = wanted.limit(max(1, min(limit, MAX_PAGE)))
        with self._index.doing("read the index"), self._index.engine.connect() as connection:
            return [_step(row) for row in connection.execute(wanted)]

    def arrived(self, step: ProcedureStep) -> tuple[int, int]:
        """How many of the objects that a step names are in the archive, and how many it names."""
        uids = set(_referenced(step.dataset)) - {""}
        count = select(func.count()).select_from(instance)
        here = 0
        with self._index.doing("read the index"), self._index.engine.connect() as connection:
            for piece in pieces_of(uids):
                found = count.where(instance.c.sop_instance_uid.in_(piece))
                here += connection.execute(found).scalar_one()
        return here, len(uids)

    def missing(self, step: ProcedureStep) -> list[str]:
        """The objects that a step names and that are not in the archive, in its order."""
        missing = dict.fromkeys(uid for uid in _referenced(step.dataset) if uid)
        uids = select(instance.c.sop_instance_uid)
        with self._index.doing("read the index"), self._index.engine.connect() as connection:
            for piece in pieces_of(list(missing)):
                found = uids.where(instance.c.sop_instance_uid.in_(piece))
                for uid in connection.execute(found).scalars():
                    missing.pop(uid, None)
        return list(missing)

    def _tell_worklist(
        self, connection: Connection, sop_instance_uid: str, dataset: Tree, status: str
    ) -> None:
        """Give the steps of the worklist that were performed, if there are any, their status."""
        performed = {
            tuple(map(scheduled.text, (_STUDY_UID, _STEP_ID, _ACCESSION_NUMBER)))
            for scheduled in dataset.sequence(SCHEDULED_STEPS)
        }
        for study_uid, step_id, accession_number in sorted(performed):
            self._worklist.set_step_status(
                connection,
                study_uid=study_uid,
                step_id=step_id,
                accession_number=accession_number,
                status=status,
                procedure_step_uid=sop_instance_uid,
            )

    def _transact(self, operation: str, work: Callable[[Connection], _Result]) -> _Result:
        with self._index.doing(operation):
            return self._index.transact(work)


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


def _row(
    connection: Connection, sop_instance_uid: str, *, for_update: bool = False
) -> Row[Any] | None:
    wanted = select(procedure_step).where(procedure_step.c.sop_instance_uid == sop_instance_uid)
    # SQLite knows no FOR UPDATE, and has one writer.
    return connection.execute(wanted.with_for_update() if for_update else wanted).first()


def _step(row: Row[Any]) -> ProcedureStep:
    return ProcedureStep(
        row.id,
        row.sop_instance_uid,
        row.status,
        read_tree(row.dataset, EXPLICIT_VR_LITTLE_ENDIAN),
        row.calling_ae_title,
        row.created_at,
        row.updated_at,
    )


def _changed(step: ProcedureStep, changes: Tree) -> ProcedureStep:
    dataset = changed(step.dataset, changes)
    return replace(step, status=dataset.text(STATUS), dataset=dataset, updated_at=_now_ms())


def _new_revision() -> str:
    return uuid.uuid4().hex


def _columns(dataset: Tree) -> dict[str, str]:
    scheduled = next(iter(dataset.sequence(SCHEDULED_STEPS)), Tree())
    values = {name: dataset.text(tag) for name, tag in _COLUMNS.items()}
    values["patient_name_search"] = search_form(values["patient_name"])
    values["study_instance_uid"] = scheduled.text(_STUDY_UID)
    values["accession_number"] = scheduled.text(_ACCESSION_NUMBER)
    return {name: _column(value) for name, value in values.items()}


def _column(text: str) -> str:
    return text[:_MAX_COLUMN].replace("\0", "\ufffd")  # PostgreSQL's text takes no NUL


def _referenced(dataset: Tree) -> Iterator[str]:
    for series in dataset.sequence(PERFORMED_SERIES):
        for tag in _REFERENCES:
            for reference in series.sequence(tag):
                yield reference.text(_REFERENCED_UID)


def _names(word: str) -> ColumnElement[bool]:
    """Whether a word of a search is about a step."""
    columns = procedure_step.c
    name = search_form(word)
    for sign in (_ESCAPE, "%", "_"):
        name = name.replace(sign, _ESCAPE + sign)
    return or_(
        columns.patient_name_search.like(f"%{name}%", escape=_ESCAPE),
        columns.patient_id.startswith(word, autoescape=True),
        columns.accession_number.startswith(word, autoescape=True),
        columns.study_instance_uid == word,
        columns.sop_instance_uid == word,
    )
