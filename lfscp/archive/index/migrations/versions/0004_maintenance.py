"""Studies that retention spares, files still to be removed, how far the archive's tasks are."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "protection",
        sa.Column("study_instance_uid", sa.Text, nullable=False),
        sa.Column("protected_at", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("study_instance_uid", name="pk_protection"),
    )
    op.create_table(
        "removal",
        sa.Column("path", sa.Text, nullable=False),
        sa.Column("removed_at", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("path", name="pk_removal"),
    )
    op.create_table(
        "maintenance",
        sa.Column("task", sa.Text, nullable=False),
        sa.Column("position", sa.BigInteger, nullable=False, server_default="0"),
        sa.Column("holder", sa.Text, nullable=False, server_default=""),
        sa.Column("held_until", sa.BigInteger, nullable=False, server_default="0"),
        sa.PrimaryKeyConstraint("task", name="pk_maintenance"),
    )
