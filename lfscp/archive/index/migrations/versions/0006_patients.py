"""A study's own patient; UIDs that count within what they belong to; studies still to be read.

Here each study gets the patient that it was filed under. What its objects say is read afterwards,
see archive/upkeep/reindexing.py.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

from lfscp.archive.index.tables.dialects import BytewiseText

revision = "0006"
down_revision = "0005"

KEY = sa.BigInteger().with_variant(sa.Integer, "sqlite")
TEXT = BytewiseText()
OF_PATIENT = (
    "patient_id",
    "patient_name",
    "patient_name_search",
    "issuer_of_patient_id",
    "patient_birth_date",
    "patient_birth_time",
    "patient_sex",
    "other_patient_ids",
    "other_patient_names",
    "other_patient_names_search",
    "ethnic_group",
    "patient_comments",
)
COLUMNS = ", ".join(OF_PATIENT)


def text(name: str) -> sa.Column[str]:
    return sa.Column(name, TEXT, nullable=False, server_default="")


def flag(name: str) -> sa.Column[int]:
    return sa.Column(name, sa.Integer, nullable=False, server_default="0")


def upgrade() -> None:
    """Make the columns, constraints and indexes, then fill them."""
    last_keys = _last_keys()
    op.drop_index("ix_patient_name_search_groups", "patient")
    op.drop_index("ix_patient_patient_birth_date", "patient")
    with _altered("patient") as patient:
        patient.drop_constraint("uq_patient_patient_id_issuer_of_patient_id", type_="unique")
        patient.add_column(text("only_study_uid"))
        patient.add_column(flag("has_conflict"))
        _unique(patient, "patient", "patient_id", "issuer_of_patient_id", "only_study_uid")
    with _altered("study") as study:
        study.drop_constraint("uq_study_study_instance_uid", type_="unique")
        for name in OF_PATIENT:
            study.add_column(text(name))
        study.add_column(flag("has_conflict"))
        _unique(study, "study", "study_instance_uid", "patient_id_fk")
    with _altered("series") as series:
        series.drop_constraint("uq_series_series_instance_uid", type_="unique")
        _unique(series, "series", "series_instance_uid", "study_fk")
    _restore(last_keys)
    # Renamed, so that a process of the older version, which may go on for a while, adds no rows
    # that it would file wrongly: its stores fail, and are sent again.
    op.execute("ALTER TABLE instance RENAME COLUMN specific_character_set TO dataset_character_set")
    _fill()
    for column in ("patient_id", "patient_name_search", "patient_birth_date"):
        op.create_index(f"ix_study_{column}", "study", [column])
    few = sa.text("patient_name_search LIKE '%=%'")
    op.create_index(
        "ix_patient_name_search_groups",
        "study",
        ["patient_name_search"],
        sqlite_where=few,
        postgresql_where=few,
    )


def _altered(table: str) -> Any:
    return op.batch_alter_table(table, table_kwargs={"sqlite_autoincrement": True})


def _unique(batch: Any, table: str, *columns: str) -> None:
    batch.create_unique_constraint(f"uq_{table}_{'_'.join(columns)}", list(columns))


def _last_keys() -> dict[str, int]:
    """The keys that SQLite gave out last: made anew, a table would give deleted ones again."""
    if op.get_bind().dialect.name != "sqlite":
        return {}
    return dict(op.get_bind().exec_driver_sql("SELECT name, seq FROM sqlite_sequence").all())


def _restore(last_keys: dict[str, int]) -> None:
    for table, key in last_keys.items():
        for statement in (
            "DELETE FROM sqlite_sequence WHERE name = ?",
            "INSERT INTO sqlite_sequence (name, seq) VALUES (?, ?)",
        ):
            op.get_bind().exec_driver_sql(statement, (table, key)[: statement.count("?")])


def _fill() -> None:
    """Give each study what its patient's row says, and one without Patient ID its own patient."""
    op.execute(
        f"UPDATE study SET ({COLUMNS}) ="  # noqa: S608 - names of our own
        f" (SELECT {COLUMNS} FROM patient WHERE patient.id = study.patient_id_fk)"
    )
    op.execute(
        f"INSERT INTO patient ({COLUMNS}, only_study_uid)"  # noqa: S608 - names of our own
        f" SELECT {COLUMNS}, study_instance_uid FROM study WHERE patient_id = ''"
    )
    op.execute(
        "UPDATE study SET patient_id_fk = (SELECT patient.id FROM patient"
        " WHERE patient.patient_id = ''"  # the columns of the unique key, for its index
        " AND patient.issuer_of_patient_id = study.issuer_of_patient_id"
        " AND patient.only_study_uid = study.study_instance_uid) WHERE patient_id = ''"
    )
    op.execute("DELETE FROM patient WHERE patient_id = '' AND only_study_uid = ''")
    op.create_table(
        "unread_study",
        sa.Column("study_fk", KEY, nullable=False, autoincrement=False),
        sa.Column("step", sa.Integer, nullable=False, server_default="0"),
        sa.PrimaryKeyConstraint("study_fk", name="pk_unread_study"),
    )
    op.execute("INSERT INTO unread_study (study_fk) SELECT id FROM study")
