"""Records deletions in the audit trail: which studies, of which patients.

The studies are looked up before their rows go. The caller confirms afterwards that it happened.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from sqlalchemy import ColumnElement, func, select
from sqlalchemy.exc import SQLAlchemyError

from lfscp.archive.index.removal import named
from lfscp.archive.index.tables.schema import instance, patient, series, study
from lfscp.dicom.values.attributes import Level
from lfscp.observe import audit
from lfscp.observe.audit.message import Patient

if TYPE_CHECKING:
    from lfscp.archive.index.index import Index

_ALL: Final = instance.join(series).join(study).join(patient)
_WORD: Final = {Level.SERIES: "series", Level.IMAGE: "instance"}


@dataclass(slots=True)
class _Study:
    uid: str
    patient: Patient
    instances: dict[str, int] = field(default_factory=dict)  # by SOP class


class Deletion:
    """One deletion about to happen.

    Args:
        index: asked at once for the studies, unless there is no audit trail.
        level: of the deletion.
        uid: its unique key.
        key: of its row, where only one of several with this UID goes.
    """

    def __init__(self, index: Index, level: Level, uid: str, key: int | None = None) -> None:
        self._part = f"{_WORD[level]} {uid}" if level in _WORD else ""
        self._studies: dict[int, _Study] = {}  # by key: patients may share a UID
        if audit.is_on():
            self._look_up(index, named(level, uid, key))

    def _look_up(self, index: Index, condition: ColumnElement[bool]) -> None:
        columns = (
            study.c.id,
            study.c.study_instance_uid,
            study.c.patient_id,
            study.c.patient_name,
            instance.c.sop_class_uid,
        )
        wanted = (
            select(*columns, func.count()).select_from(_ALL).where(condition).group_by(*columns)
        )
        try:
            with index.engine.connect() as connection:
                rows = list(connection.execute(wanted))
        except SQLAlchemyError:  # then it cannot be deleted either
            return
        for key, study_uid, patient_id, name, sop_class_uid, number in rows:
            found = self._studies.setdefault(key, _Study(study_uid, Patient(patient_id, name)))
            found.instances[sop_class_uid] = number

    def happened(self) -> None:
        """Record it, a message for each study."""
        for found in self._studies.values():
            audit.deleted(found.uid, found.instances, found.patient, self._part)
