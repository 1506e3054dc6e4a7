"""Columns in which names are found without regard to accents.

Only names that are not ASCII have a value there, so that most rows need no change.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

from lfscp.archive.index.tables.dialects import BytewiseText
from lfscp.dicom.values.folded_names import folded_column

revision = "0011"
down_revision = "0010"

TEXT = BytewiseText()
OF_PATIENT = ("patient_name", "other_patient_names")
OF_STUDY = (*OF_PATIENT, "referring_physician_name", "name_of_physicians_reading_study")
INDEXED = ("patient_name", "referring_physician_name")
ROWS_AT_ONCE = 5_000


def upgrade() -> None:
    """Make the columns, fill them, then make the indexes."""
    for table, names in (("patient", OF_PATIENT), ("study", OF_STUDY)):
        for name in names:
            column = sa.Column(f"{name}_folded", TEXT, nullable=False, server_default="")
            op.add_column(table, column)
        _fill(table, names)
    for name in INDEXED:
        few = sa.text(f"{name}_folded != ''")
        op.create_index(
            f"ix_study_{name}_folded",
            "study",
            [f"{name}_folded"],
            sqlite_where=few,
            postgresql_where=few,
        )


def _fill(table: str, names: tuple[str, ...]) -> None:
    """Fold the names that are not ASCII: those with more bytes than characters."""
    connection = op.get_bind()
    is_sqlite = connection.dialect.name == "sqlite"
    octets = "length(CAST({0} AS BLOB))" if is_sqlite else "octet_length({0})"
    longer = " OR ".join(f"{octets.format(name)} <> length({name})" for name in names)
    columns = ", ".join(names)
    found = connection.execute(
        sa.text(f"SELECT id, {columns} FROM {table} WHERE {longer}")  # noqa: S608 - our own names
    ).all()
    set_to = ", ".join(f"{name}_folded = :{name}" for name in names)
    update = sa.text(f"UPDATE {table} SET {set_to} WHERE id = :id")  # noqa: S608 - our own names
    for at in range(0, len(found), ROWS_AT_ONCE):
        connection.execute(update, [_folded(row, names) for row in found[at : at + ROWS_AT_ONCE]])


def _folded(row: Any, names: tuple[str, ...]) -> dict[str, Any]:
    folded = {name: folded_column(value) for name, value in zip(names, row[1:], strict=True)}
    return {"id": row[0], **folded}
