"""The tables of the jobs, which are kept in the index's database."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from lfscp.archive.index.tables.dialects import BytewiseText

revision = "0002"
down_revision = "0001"

KEY = sa.BigInteger().with_variant(sa.Integer, "sqlite")
TEXT = BytewiseText()


def text(name: str, *, nullable: bool = False) -> sa.Column[str]:
    return sa.Column(name, TEXT, nullable=nullable, server_default=None if nullable else "")


def number(name: str) -> sa.Column[int]:
    return sa.Column(name, sa.BigInteger, nullable=False, server_default="0")


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "job",
        sa.Column("arrival", KEY, nullable=False),
        sa.Column("id", TEXT, nullable=False),
        text("node"),
        text("kind"),
        text("peers"),
        text("parameters"),
        text("state"),
        text("created_at"),
        text("started_at", nullable=True),
        text("ended_at", nullable=True),
        number("attempts"),
        number("done"),
        number("failed"),
        number("remaining"),
        number("bytes"),
        sa.Column("rate_bytes_s", sa.Float, nullable=False, server_default="0"),
        text("reason"),
        text("result"),
        number("failures"),
        text("next_attempt_at", nullable=True),
        sa.PrimaryKeyConstraint("arrival", name="pk_job"),
        sa.UniqueConstraint("id", name="uq_job_id"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_job_node_state", "job", ["node", "state"])
    op.create_index("ix_job_ended_at", "job", ["ended_at"])
    op.create_table(
        "job_item",
        sa.Column("job_id", TEXT, nullable=False),
        sa.Column("item", TEXT, nullable=False),
        sa.PrimaryKeyConstraint("job_id", "item", name="pk_job_item"),
    )
