"""Labels of studies, who sent them, and indexes for the orders of the list of studies."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from lfscp.archive.index.tables.dialects import BytewiseText

revision = "0008"
down_revision = "0007"

KEY = sa.BigInteger().with_variant(sa.Integer, "sqlite")
TEXT = BytewiseText()


def upgrade() -> None:
    """Make the tables, and tell from the instances who sent each study."""
    op.create_table(
        "study_label",
        sa.Column("study_instance_uid", TEXT, nullable=False),
        sa.Column("label", TEXT, nullable=False),
        sa.PrimaryKeyConstraint("study_instance_uid", "label", name="pk_study_label"),
    )
    _index("study_label", "label", "study_instance_uid")
    op.create_table(
        "study_source",
        sa.Column("study_fk", KEY, autoincrement=False, nullable=False),
        sa.Column("calling_ae_title", TEXT, nullable=False),
        sa.PrimaryKeyConstraint("study_fk", "calling_ae_title", name="pk_study_source"),
        sa.ForeignKeyConstraint(
            ["study_fk"], ["study.id"], name="fk_study_source_study_fk", ondelete="CASCADE"
        ),
    )
    _index("study_source", "calling_ae_title", "study_fk")
    _index("study", "study_description")
    _index("study", "received_at")
    op.execute(
        "INSERT INTO study_source (study_fk, calling_ae_title) "
        "SELECT DISTINCT series.study_fk, instance.calling_ae_title "
        "FROM instance JOIN series ON series.id = instance.series_fk "
        "WHERE instance.calling_ae_title <> ''"
    )


def _index(table: str, *columns: str) -> None:
    op.create_index(f"ix_{table}_{'_'.join(columns)}", table, list(columns))
