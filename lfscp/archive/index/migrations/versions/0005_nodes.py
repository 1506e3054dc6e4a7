"""The nodes that share an index, and which of them holds a job."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from lfscp.archive.index.tables.dialects import BytewiseText

revision = "0005"
down_revision = "0004"

TEXT = BytewiseText()


def text(name: str) -> sa.Column[str]:
    return sa.Column(name, TEXT, nullable=False, server_default="")


def upgrade() -> None:
    """Make the table of nodes and the jobs' new columns."""
    op.create_table(
        "node",
        sa.Column("id", TEXT, nullable=False),
        text("ae_title"),
        text("host"),
        text("configuration"),
        sa.Column("seen_at", sa.BigInteger, nullable=False, server_default="0"),
        sa.PrimaryKeyConstraint("id", name="pk_node"),
    )
    for name in ("ae_title", "bound_to", "held_by", "wish"):
        op.add_column("job", text(name))
    held_until = sa.Column("held_until", sa.BigInteger, nullable=False, server_default="0")
    op.add_column("job", held_until)
    op.create_index("ix_job_state", "job", ["state"])
