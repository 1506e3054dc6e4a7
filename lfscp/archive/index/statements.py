"""The SQL of adding and removing instances, compiled once per kind of database from the schema.

The path of a C-STORE runs these through the driver itself: SQLAlchemy's execution costs more
than SQLite's insert. The text still comes from SQLAlchemy, so that it fits every database.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from sqlalchemy import (
    Column,
    ColumnElement,
    Delete,
    Dialect,
    Insert,
    Select,
    Update,
    bindparam,
    case,
    delete,
    exists,
    literal_column,
    select,
    update,
)

from lfscp.archive.index.dialects import insert_if_absent
from lfscp.archive.index.maintenance_tables import EVERY_OBJECT, removal, unread_study
from lfscp.archive.index.schema import (
    attribute_columns,
    identity_columns,
    instance,
    patient,
    series,
    study,
)
from lfscp.dicom.attributes import Level

# Not parameters: a statement has those that it is given, and no others.
_NO: Final[ColumnElement[int]] = literal_column("0")
_YES: Final[ColumnElement[int]] = literal_column("1")
_EMPTY: Final[ColumnElement[str]] = literal_column("''")
_OF_PATIENT: Final = [column.name for column in attribute_columns(Level.PATIENT)]


class Statement:
    """One compiled statement whose parameters are given in a fixed order."""

    def __init__(
        self, statement: Select[Any] | Insert | Update | Delete, names: Sequence[str], on: Dialect
    ) -> None:
        compiled = statement.compile(dialect=on)
        self._text = str(compiled)
        self._names = list(names)
        self._order: list[int] | None = None
        positions = getattr(compiled, "positiontup", None)
        if positions is not None:
            self._order = [self._names.index(name) for name in positions]
        self._in_order = self._order == list(range(len(self._names)))

    def run(self, cursor: Any, values: Sequence[Any]) -> Any:
        """Execute with one value per name; returns the cursor."""
        if self._in_order:
            cursor.execute(self._text, values)
        elif self._order is not None:
            cursor.execute(self._text, [values[index] for index in self._order])
        else:
            cursor.execute(self._text, dict(zip(self._names, values, strict=True)))
        return cursor


def _if_empty(column: Column[str]) -> ColumnElement[str]:
    """A value given for a column that has none; one that it has stays."""
    return case((column == _EMPTY, bindparam(column.name)), else_=column)


class Statements:
    """All statements of the index's writing side."""

    def __init__(self, on: Dialect) -> None:
        def statement(made: Select[Any] | Insert | Update | Delete, *names: str) -> Statement:
            return Statement(made, names, on)

        def insert(table: Any) -> Statement:
            names = [column.name for column in table.columns if column.name != "id"]
            values: dict[str, Any] = {name: bindparam(name) for name in names}
            # Several nodes may add the same study at once: what is there already is read again.
            # SQLite's writers come one after the other, and an instance is to be told apart.
            several = on.name == "postgresql" and table is not instance
            made = insert_if_absent(table, on) if several else table.insert()
            return statement(made.values(values).inline(), *names)

        self.insert_patient = insert(patient)
        self.insert_study = insert(study)
        self.insert_series = insert(series)
        self.insert_instance = insert(instance)
        self.find_patient = statement(
            select(
                patient.c.id,
                *identity_columns(patient),
            ).where(
                patient.c.patient_id == bindparam("patient_id"),
                patient.c.issuer_of_patient_id == bindparam("issuer"),
                patient.c.only_study_uid == bindparam("only_study_uid"),
            ),
            "patient_id",
            "issuer",
            "only_study_uid",
        )
        self.find_studies = statement(
            select(
                study.c.id,
                study.c.patient_id_fk,
                *identity_columns(study),
            )
            .where(study.c.study_instance_uid == bindparam("uid"))
            .order_by(study.c.id),
            "uid",
        )
        self.find_series = statement(
            select(series.c.id, series.c.study_fk)
            .where(series.c.series_instance_uid == bindparam("uid"))
            .order_by(series.c.id),
            "uid",
        )
        self.mark_study = statement(
            update(study)
            .where(study.c.id == bindparam("key"), study.c.has_conflict == _NO)
            .values(has_conflict=_YES),
            "key",
        )
        self.mark_patient = statement(
            update(patient)
            .where(patient.c.id == bindparam("key"), patient.c.has_conflict == _NO)
            .values(has_conflict=_YES),
            "key",
        )
        self.complete_patient = statement(
            update(patient)
            .where(
                patient.c.patient_id == bindparam("of_patient_id"),
                patient.c.issuer_of_patient_id == bindparam("of_issuer"),
                patient.c.only_study_uid == bindparam("only_study_uid"),
            )
            .values({name: _if_empty(patient.c[name]) for name in _OF_PATIENT}),
            *_OF_PATIENT,
            "of_patient_id",
            "of_issuer",
            "only_study_uid",
        )
        self.complete_study = statement(
            update(study)
            .where(study.c.id == bindparam("key"))
            .values({name: _if_empty(study.c[name]) for name in _OF_PATIENT})
            .values(patient_id_fk=bindparam("patient_key")),
            *_OF_PATIENT,
            "patient_key",
            "key",
        )
        self.delete_patient_without_study = statement(
            delete(patient).where(
                patient.c.id == bindparam("key"),
                ~exists().where(study.c.patient_id_fk == patient.c.id),
            ),
            "key",
        )
        self.read_again = statement(
            insert_if_absent(unread_study, on).values(
                study_fk=bindparam("key"), step=literal_column(str(EVERY_OBJECT))
            ),
            "key",
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
            .where(instance.c.sop_instance_uid == bindparam("uid")),
            "uid",
        )
        self.touch_study = statement(
            update(study).where(study.c.id == bindparam("key")).values(updated_at=bindparam("now")),
            "key",
            "now",
        )
        # The replaced file's removal, noted with the replacement; see removal.py.
        self.note_removal = statement(
            insert_if_absent(removal, on).values(
                path=bindparam("path"), removed_at=bindparam("now")
            ),
            "path",
            "now",
        )
        self.delete_instance = statement(
            delete(instance).where(instance.c.id == bindparam("key")), "key"
        )
        self.delete_path = statement(
            delete(instance).where(
                instance.c.sop_instance_uid == bindparam("uid"),
                instance.c.path == bindparam("path"),
            ),
            "uid",
            "path",
        )


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
