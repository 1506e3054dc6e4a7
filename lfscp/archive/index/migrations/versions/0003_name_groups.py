"""Partial indexes over the few person names that have several component groups."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"

COLUMNS = {"patient": "patient_name_search", "study": "referring_physician_name_search"}


def upgrade() -> None:
    """Make the indexes."""
    for table, column in COLUMNS.items():
        few = sa.text(f"{column} LIKE '%=%'")
        op.create_index(
            f"ix_{column}_groups", table, [column], sqlite_where=few, postgresql_where=few
        )
