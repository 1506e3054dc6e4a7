"""Finds the patients of stored studies and instances, as the index's rows of the studies say.

Rules: a Study Instance UID may stand for studies of several patients, so that only an instance, or
the study's key, says which one is meant. Statements take lists in pieces of bounded size.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, NamedTuple

from sqlalchemy import Connection, select

from lfscp.archive.index.removal import named, pieces_of
from lfscp.archive.index.tables.schema import instance, series, study
from lfscp.dicom.values.attributes import Level

_WHOSE: Final = (
    study.c.id,
    study.c.patient_id_fk,
    study.c.patient_id,
    study.c.issuer_of_patient_id,
    study.c.patient_name,
)


class StudyPatient(NamedTuple):
    """The patient of a study.

    Args:
        study_key: of the study's row, as `patient_key` of the patient's.
        patient_id: as the study itself has it, as are issuer and name.
    """

    study_key: int
    patient_key: int
    patient_id: str
    issuer: str
    name: str


def patients_of_study(
    connection: Connection, study_uid: str, key: int | None = None
) -> list[StudyPatient]:
    """The patients that have a study with a UID; more than one against the standard only.

    Args:
        key: of the study's row, where one is meant.
    """
    wanted = select(*_WHOSE).where(named(Level.STUDY, study_uid, key)).order_by(study.c.id)
    return [StudyPatient(*row) for row in connection.execute(wanted)]


def patients_of_instances(
    connection: Connection, sop_instance_uids: Iterable[str]
) -> dict[str, StudyPatient]:
    """The patients of instances, by SOP Instance UID; missing instances are left out."""
    wanted = select(instance.c.sop_instance_uid, *_WHOSE).select_from(
        instance.join(series).join(study)
    )
    found: dict[str, StudyPatient] = {}
    for piece in pieces_of(sop_instance_uids):
        rows = connection.execute(wanted.where(instance.c.sop_instance_uid.in_(piece)))
        found.update((uid, StudyPatient(*row)) for uid, *row in rows)
    return found
