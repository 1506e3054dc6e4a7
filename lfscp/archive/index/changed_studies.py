"""Changes the row of a study, which may get another patient; see `corrections`.

Rules: a study that gets another patient gets a row of its own below that patient, or joins the one
that is there with its UID. Functions run in a transaction of their caller.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from sqlalchemy import (
    Connection,
    RowMapping,
    delete,
    exists,
    select,
    update,
)

from lfscp.archive.index.removal import pieces_of, settle_patients
from lfscp.archive.index.tables.dialects import insert_if_absent
from lfscp.archive.index.tables.maintenance_tables import EVERY_OBJECT, unread_study
from lfscp.archive.index.tables.schema import (
    attribute_columns,
    instance,
    patient,
    series,
    study,
)
from lfscp.dicom.values.attributes import Level

IDENTITY: Final = ("patient_id", "issuer_of_patient_id")
_OF_PATIENT: Final = [column.name for column in attribute_columns(Level.PATIENT)]


def hold_study(connection: Connection, study_key: int) -> None:
    """Keep other nodes from adding to a study; what they are at now is seen afterwards."""
    of_study = select(study.c.patient_id_fk).where(study.c.id == study_key).scalar_subquery()
    for table, condition in (  # in the order of those that add
        (patient, patient.c.id == of_study),
        (study, study.c.id == study_key),
        (series, series.c.study_fk == study_key),
    ):
        held = select(table.c.id).where(condition).order_by(table.c.id)
        connection.execute(held.with_for_update()).all()


def change_study(
    connection: Connection, row: RowMapping, after: Mapping[str, Any], keys: Sequence[int]
) -> None:
    """Change a study's row, which gets another patient if its Patient ID or issuer changes.

    Args:
        keys: of the instances that are meant.
    """
    hold_study(connection, row["id"])
    values = {name: after[name] for name in after if name not in ("id", "patient_id_fk")}
    patient_key = _patient(connection, values)
    if patient_key == row["patient_id_fk"]:
        connection.execute(update(study).where(study.c.id == row["id"]).values(values))
        _look_again(connection, row["id"])
    else:
        target = _study_below(connection, patient_key, values)
        _move(connection, keys, target)
        _drop_empty(connection, row["id"], row["patient_id_fk"])
        _look_again(connection, target)
    settle_patients(connection, {patient_key, row["patient_id_fk"]})


def _patient(connection: Connection, values: Mapping[str, Any]) -> int:
    """The patient that a study with these values has, made when it is new."""
    only_study_uid = "" if values["patient_id"] else values["study_instance_uid"]
    identity = {name: values[name] for name in IDENTITY}
    identity["only_study_uid"] = only_study_uid
    wanted = select(patient.c.id).where(
        *(patient.c[name] == value for name, value in identity.items())
    )
    found = connection.execute(wanted.with_for_update()).scalar()
    if found is None:
        own = {name: values[name] for name in _OF_PATIENT}
        made = insert_if_absent(patient, connection.dialect).values({**own, **identity})
        connection.execute(made)
        found = connection.execute(wanted.with_for_update()).scalar_one()
    return int(found)


def _study_below(connection: Connection, patient_key: int, values: Mapping[str, Any]) -> int:
    """The study of a patient, made when it is new."""
    made = insert_if_absent(study, connection.dialect)
    connection.execute(made.values({**values, "patient_id_fk": patient_key}))
    wanted = select(study.c.id).where(
        study.c.study_instance_uid == values["study_instance_uid"],
        study.c.patient_id_fk == patient_key,
    )
    return int(connection.execute(wanted.with_for_update()).scalar_one())


def _move(connection: Connection, keys: Sequence[int], study_key: int) -> None:
    """Move instances to another study, into series of the same UIDs.

    The series get rows of their own: processes remember the keys of others, and must not add to
    them.
    """
    for piece in pieces_of(keys):
        wanted = select(instance.c.series_fk).where(instance.c.id.in_(piece)).distinct()
        for old in connection.execute(wanted).scalars().all():
            new = _series_below(connection, old, study_key)
            moved = update(instance).where(instance.c.id.in_(piece), instance.c.series_fk == old)
            connection.execute(moved.values(series_fk=new))


def _series_below(connection: Connection, series_key: int, study_key: int) -> int:
    row = connection.execute(select(series).where(series.c.id == series_key)).mappings().one()
    values = {name: row[name] for name in row if name not in ("id", "study_fk")}
    made = insert_if_absent(series, connection.dialect)
    connection.execute(made.values({**values, "study_fk": study_key}))
    wanted = select(series.c.id).where(
        series.c.series_instance_uid == row["series_instance_uid"], series.c.study_fk == study_key
    )
    return int(connection.execute(wanted).scalar_one())


def _drop_empty(connection: Connection, study_key: int, patient_key: int) -> None:
    """Remove the series of a study, the study and its patient if nothing is in them any longer."""
    empty = ~exists().where(instance.c.series_fk == series.c.id)
    connection.execute(delete(series).where(series.c.study_fk == study_key, empty))
    empty = ~exists().where(series.c.study_fk == study.c.id)
    connection.execute(delete(study).where(study.c.id == study_key, empty))
    empty = ~exists().where(study.c.patient_id_fk == patient.c.id)
    connection.execute(delete(patient).where(patient.c.id == patient_key, empty))


def _look_again(connection: Connection, study_key: int) -> None:
    """Have the objects of a study read, if they contradicted each other."""
    wanted = select(study.c.has_conflict).where(study.c.id == study_key)
    if connection.execute(wanted).scalar():
        made = insert_if_absent(unread_study, connection.dialect)
        connection.execute(made.values(study_fk=study_key, step=EVERY_OBJECT))
