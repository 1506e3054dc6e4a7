"""The SQL of adding and removing instances, compiled once per kind of database from the schema.

The path of a C-STORE runs these through the driver itself: SQLAlchemy's execution costs more
than SQLite's insert. The text still comes from SQLAlchemy, so that it fits every database.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, cast

from sqlalchemy import (
    BindParameter,
    ColumnElement,
    Delete,
    Dialect,
    Insert,
    Select,
    Table,
    Update,
    bindparam,
    case,
    delete,
    exists,
    literal_column,
    select,
    update,
)

from lfscp.archive.index.tables.dialects import insert_if_absent
from lfscp.archive.index.tables.maintenance_tables import (
    EVERY_OBJECT,
    removal,
    unread_study,
    unsynced_object,
)
from lfscp.archive.index.tables.schema import (
    attribute_columns,
    identity_columns,
    instance,
    patient,
    series,
    study,
)
from lfscp.archive.index.tables.study_tables import study_source
from lfscp.dicom.values.attributes import Level

# Not parameters: a statement has those that it is given, and no others.
_NO: Final[ColumnElement[int]] = literal_column("0")
_YES: Final[ColumnElement[int]] = literal_column("1")
_EMPTY: Final[ColumnElement[str]] = literal_column("''")


class Statement:
    """One compiled statement.

    Args:
        on: takes parameters by position.
    """

    def __init__(self, statement: Select[Any] | Insert | Update | Delete, on: Dialect) -> None:
        self._text = str(statement.compile(dialect=on))

    def run(self, cursor: Any, values: Sequence[Any]) -> Any:
        """Execute with its values in the order of the SQL; returns the cursor."""
        cursor.execute(self._text, values)
        return cursor


class Statements:
    """All statements of the index's writing side; each takes its values in the order of its SQL."""

    def __init__(self, on: Dialect) -> None:
        def insert(table: Any) -> Insert:
            names = [column.name for column in table.columns if column.name != "id"]
            values: dict[str, Any] = {name: bindparam(name) for name in names}
            # Several nodes may add the same study at once: what is there already is read again.
            # SQLite's writers come one after the other, and an instance is to be told apart.
            several = on.name == "postgresql" and table is not instance
            if not several:
                return cast("Insert", table.insert().values(values).inline())
            made = insert_if_absent(table, on).values(values).inline()
            return cast("Insert", made.returning(table.c.id))  # SQLite finds it quickly enough

        def statement(made: Select[Any] | Insert | Update | Delete) -> Statement:
            return Statement(made, on)

        key: BindParameter[int] = bindparam("key")
        self.insert_patient = statement(insert(patient))
        self.insert_study = statement(insert(study))
        self.insert_series = statement(insert(series))
        self.insert_instance = statement(insert(instance))
        self._on = on
        self._several_instances: dict[int, Statement] = {1: self.insert_instance}
        self.find_patient = statement(
            select(patient.c.id, *identity_columns(patient)).where(*_named_patient())
        )
        self.find_studies = statement(
            select(study.c.id, study.c.patient_id_fk, *identity_columns(study))
            .where(study.c.study_instance_uid == bindparam("uid"))
            .order_by(study.c.id)
        )
        self.find_series = statement(
            select(series.c.id, series.c.study_fk)
            .where(series.c.series_instance_uid == bindparam("uid"))
            .order_by(series.c.id)
        )
        self.mark_study, self.mark_patient = (
            statement(
                update(table)
                .where(table.c.id == key, table.c.has_conflict == _NO)
                .values(has_conflict=_YES)
            )
            for table in (study, patient)
        )
        self.complete_patient = statement(
            update(patient).where(*_named_patient()).values(_completed(patient))
        )
        self.complete_study = statement(
            update(study)
            .where(study.c.id == key)
            .values(_completed(study))
            .values(patient_id_fk=bindparam("patient_key"))
        )
        self.delete_patient_without_study = statement(
            delete(patient).where(
                patient.c.id == key, ~exists().where(study.c.patient_id_fk == patient.c.id)
            )
        )
        step: ColumnElement[int] = literal_column(str(EVERY_OBJECT))
        self.read_again = statement(
            insert_if_absent(unread_study, on).values(study_fk=key, step=step)
        )
        self.find_instance = statement(
            select(
                instance.c.id,
                instance.c.path,
                instance.c.transfer_syntax_uid,
                instance.c.dataset_offset,
                instance.c.size,
                instance.c.file_size,
                instance.c.digest,
                series.c.series_instance_uid,
                study.c.study_instance_uid,
                instance.c.series_fk,
                series.c.study_fk,
                *identity_columns(study),
            )
            .select_from(instance.join(series).join(study))
            .where(instance.c.sop_instance_uid == bindparam("uid"))
        )
        self.touch_study = statement(
            update(study).where(study.c.id == key).values(updated_at=bindparam("now"))
        )
        self.note_source = statement(
            insert_if_absent(study_source, on).values(
                study_fk=key, calling_ae_title=bindparam("calling_ae_title")
            )
        )
        self.keep_content = statement(insert(unsynced_object))
        # The replaced file's removal, noted with the replacement; see removal.py.
        self.note_removal = statement(
            insert_if_absent(removal, on).values(
                path=bindparam("path"), removed_at=bindparam("now")
            )
        )
        self.delete_instance = statement(delete(instance).where(instance.c.id == key))
        self.delete_path = statement(
            delete(instance).where(
                instance.c.sop_instance_uid == bindparam("uid"),
                instance.c.path == bindparam("path"),
            )
        )

    def insert_instances(self, count: int) -> Statement:
        """Insert so many instances at once; the values of each follow those of the one before."""
        made = self._several_instances.get(count)
        if made is None:
            names = [column.name for column in instance.columns if column.name != "id"]
            rows: list[dict[str, BindParameter[Any]]] = [
                {name: bindparam(f"{name}_{at}") for name in names} for at in range(count)
            ]
            made = Statement(instance.insert().values(rows).inline(), self._on)
            self._several_instances[count] = made
        return made


def _named_patient() -> tuple[ColumnElement[bool], ...]:
    """The condition of the patient's row with a unique key."""
    return (
        patient.c.patient_id == bindparam("of_patient_id"),
        patient.c.issuer_of_patient_id == bindparam("of_issuer"),
        patient.c.only_study_uid == bindparam("only_study_uid"),
    )


def _completed(table: Table) -> dict[str, ColumnElement[str]]:
    """Values for the columns of a patient's attributes that have none; others stay.

    The folded form of a name goes with the name: it may be empty though there is a name.
    """
    columns = [table.c[column.name] for column in attribute_columns(Level.PATIENT)]
    return {
        column.name: case(
            (table.c[column.name.removesuffix("_folded")] == _EMPTY, bindparam(column.name)),
            else_=column,
        )
        for column in columns
    }


_made: Final[dict[tuple[str, str], Statements]] = {}


def statements_on(dialect: Dialect) -> Statements:
    """The statements for a database's dialect, which all indexes of its kind share."""
    kind = (dialect.name, dialect.driver)
    if kind not in _made:
        _made[kind] = Statements(dialect)
    return _made[kind]


def compiled(statement: Select[Any], dialect: Dialect) -> tuple[str, list[Any]]:
    """SQL for the driver's own cursor, and its parameters by position."""
    made = statement.compile(dialect=dialect, compile_kwargs={"render_postcompile": True})
    values = made.params  # made anew whenever it is asked for
    return str(made), [values[name] for name in getattr(made, "positiontup", None) or ()]
