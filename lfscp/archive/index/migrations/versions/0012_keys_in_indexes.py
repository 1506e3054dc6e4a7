"""In PostgreSQL, the keys of rows at the end of the indexes of studies, as SQLite has them anyhow.

So a word is looked for in an index without reading the rows, and rows with equal values have an
order in it. The rows themselves do not change: an index of 100,000 studies needs a few seconds.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"

OF_STUDY = (
    ("patient_id",),
    ("patient_name_search",),
    ("patient_birth_date",),
    ("study_date", "study_time"),
    ("accession_number",),
    ("referring_physician_name_search",),
    ("study_description",),
    ("received_at",),
)
NAMES = ("patient_name", "referring_physician_name")


def upgrade() -> None:
    """Make the indexes anew."""
    if op.get_bind().dialect.name != "postgresql":
        return
    _make_anew("patient", ("patient_name_search",))
    for columns in OF_STUDY:
        _make_anew("study", columns)
    for name in NAMES:
        _make_anew("study", (f"{name}_folded",), f"{name}_folded != ''")
        groups, searched = f"ix_{name}_search_groups", f"{name}_search"
        op.drop_index(groups, "study")
        _make(f"{groups}_id", "study", (searched,), f"{searched} LIKE '%=%'")


def _make_anew(table: str, columns: tuple[str, ...], only: str | None = None) -> None:
    name = "_".join(("ix", table, *columns))
    op.drop_index(name, table)
    _make(f"{name}_id", table, columns, only)


def _make(name: str, table: str, columns: tuple[str, ...], only: str | None) -> None:
    few = None if only is None else sa.text(only)
    op.create_index(name, table, [*columns, "id"], postgresql_where=few)
