"""The SQL of adding and removing instances, compiled once per database from the schema's tables.

The path of a C-STORE runs these through the driver itself: SQLAlchemy's execution costs more
than SQLite's insert. The text still comes from SQLAlchemy, so that it fits every database.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Delete, Dialect, Insert, Select, Update, bindparam, delete, select, update

from lfscp.archive.dialects import insert_if_absent
from lfscp.archive.schema import instance, patient, series, study


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
            select(patient.c.id).where(
                patient.c.patient_id == bindparam("patient_id"),
                patient.c.issuer_of_patient_id == bindparam("issuer"),
            ),
            "patient_id",
            "issuer",
        )
        self.find_study = statement(
            select(study.c.id, patient.c.patient_id)
            .join_from(study, patient)
            .where(study.c.study_instance_uid == bindparam("uid")),
            "uid",
        )
        self.find_series = statement(
            select(series.c.id, study.c.id, study.c.study_instance_uid, patient.c.patient_id)
            .select_from(series.join(study).join(patient))
            .where(series.c.series_instance_uid == bindparam("uid")),
            "uid",
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
