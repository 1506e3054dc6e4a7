"""Keeps the performed procedure steps of modalities: made, changed until they end, and found.

Rules: what a method has done is committed when it returns. A step and what it changes in the
worklist change together. Of two requests at once on one step, the second sees what the first one
did. A step has its dataset whole; the columns beside it are what is searched for.
Source: PS3.4 annex F.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Collection
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, TypeVar

from sqlalchemy import Connection, Row, func, insert, select, update

from lfscp.archive.index.clock_readings import wall_ms
from lfscp.archive.index.removal import pieces_of
from lfscp.archive.index.tables.schema import instance
from lfscp.archive.index.tables.workflow_tables import procedure_step
from lfscp.archive.workflow.procedure_steps import rows
from lfscp.archive.workflow.procedure_steps.errors import (
    DuplicateStepError,
    StepEndedError,
    UnknownStepError,
)
from lfscp.archive.workflow.procedure_steps.rows import ProcedureStep
from lfscp.archive.workflow.procedure_steps.rules import (
    FINAL,
    IN_PROGRESS,
    changed,
    check_creation,
    fault_of,
)
from lfscp.archive.workflow.procedure_steps.table import SCHEDULED_STEPS, STATUS
from lfscp.archive.workflow.worklist.item import (
    ACCESSION_NUMBER,
    STARTED,
    STEP_ID,
    STUDY_INSTANCE_UID,
)
from lfscp.archive.workflow.worklist.worklist import Worklist
from lfscp.dicom.models.element_tree import Tree, encode_tree

if TYPE_CHECKING:
    from lfscp.archive.index.index import Index

MAX_PAGE: Final = 500
MAX_WORDS: Final = 20
_Result = TypeVar("_Result")


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
        now = wall_ms()
        row = {
            "sop_instance_uid": sop_instance_uid,
            "status": IN_PROGRESS,
            "revision": _new_revision(),
            "dataset": encode_tree(dataset),
            "calling_ae_title": rows.kept(calling_ae_title),
            "created_at": now,
            "updated_at": now,
            **rows.columns_of(dataset),
        }

        def work(connection: Connection) -> None:
            found = rows.find_row(connection, sop_instance_uid)
            if found is None:
                connection.execute(insert(procedure_step).values(row))
                self._tell_worklist(connection, sop_instance_uid, dataset, STARTED)
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
            after = _changed(rows.step_of(before), changes)
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
            **rows.columns_of(after.dataset),
        }

        def work(connection: Connection) -> bool:
            found = rows.find_row(connection, after.sop_instance_uid, for_update=True)
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
        return None if found is None else rows.step_of(found)

    def _read(self, sop_instance_uid: str) -> Row[Any] | None:
        with self._index.doing("read the index"), self._index.engine.connect() as connection:
            return rows.find_row(connection, sop_instance_uid)

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
            wanted = wanted.where(rows.names(word))
        if statuses:
            wanted = wanted.where(procedure_step.c.status.in_(list(statuses)))
        if study_uid:
            wanted = wanted.where(procedure_step.c.study_instance_uid == study_uid)
        if after:
            wanted = wanted.where(procedure_step.c.id < after)
        wanted = wanted.limit(max(1, min(limit, MAX_PAGE)))
        with self._index.doing("read the index"), self._index.engine.connect() as connection:
            return [rows.step_of(row) for row in connection.execute(wanted)]

    def arrived(self, step: ProcedureStep) -> tuple[int, int]:
        """How many of the objects that a step names are in the archive, and how many it names."""
        uids = set(rows.referenced(step.dataset)) - {""}
        count = select(func.count()).select_from(instance)
        here = 0
        with self._index.doing("read the index"), self._index.engine.connect() as connection:
            for piece in pieces_of(uids):
                found = count.where(instance.c.sop_instance_uid.in_(piece))
                here += connection.execute(found).scalar_one()
        return here, len(uids)

    def missing(self, step: ProcedureStep) -> list[str]:
        """The objects that a step names and that are not in the archive, in its order."""
        missing = dict.fromkeys(uid for uid in rows.referenced(step.dataset) if uid)
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
            tuple(map(scheduled.text, (STUDY_INSTANCE_UID, STEP_ID, ACCESSION_NUMBER)))
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


def _changed(step: ProcedureStep, changes: Tree) -> ProcedureStep:
    dataset = changed(step.dataset, changes)
    return replace(step, status=dataset.text(STATUS), dataset=dataset, updated_at=wall_ms())


def _new_revision() -> str:
    return uuid.uuid4().hex
