"""The tables of actions of routes, and of complete studies."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from lfscp.archive.index.tables.dialects import BytewiseText

revision = "0013"
down_revision = "0012"

TEXT = BytewiseText()


def upgrade() -> None:
    """Make the tables, and the column of the UID that was sent."""
    op.add_column("route_item", sa.Column("sent_uid", TEXT, nullable=False, server_default=""))
    for table, key, time in (
        ("route_made", "uid", "made_at"),
        ("study_completion", "study_instance_uid", "last_at"),
    ):
        op.create_table(
            table,
            sa.Column(key, TEXT, nullable=False),
            sa.Column(time, sa.BigInteger, nullable=False, server_default="0"),
            sa.PrimaryKeyConstraint(key, name=f"pk_{table}"),
        )
        op.create_index(f"ix_{table}_{time}", table, [time])
