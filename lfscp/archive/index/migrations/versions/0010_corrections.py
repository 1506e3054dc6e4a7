"""The tables of corrections, and of objects that are kept as they were."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from lfscp.archive.index.tables.dialects import BytewiseText

revision = "0010"
down_revision = "0009"

KEY = sa.BigInteger().with_variant(sa.Integer, "sqlite")
TEXT = BytewiseText()


def text(name: str, *, is_given: bool = False) -> sa.Column[str]:
    return sa.Column(name, TEXT, nullable=False, server_default=None if is_given else "")


def number(name: str) -> sa.Column[int]:
    return sa.Column(name, sa.BigInteger, nullable=False, server_default="0")


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "kept_object",
        sa.Column("id", KEY, nullable=False),
        text("sop_instance_uid", is_given=True),
        *map(text, ("study_instance_uid", "correction_id", "new_path")),
        text("path", is_given=True),
        *map(text, ("transfer_syntax_uid", "dataset_character_set")),
        sa.Column("dataset_offset", sa.Integer, nullable=False),
        *map(number, ("size", "file_size")),
        *map(text, ("digest", "calling_ae_title")),
        number("kept_at"),
        sa.PrimaryKeyConstraint("id", name="pk_kept_object"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_kept_object_sop_instance_uid", "kept_object", ["sop_instance_uid"])
    op.create_index("ix_kept_object_correction_id", "kept_object", ["correction_id"])
    op.create_table(
        "correction",
        text("id", is_given=True),
        *map(text, ("state", "user", "changes")),
        *map(number, ("created_at", "ended_at")),
        sa.PrimaryKeyConstraint("id", name="pk_correction"),
    )
    op.create_index("ix_correction_created_at", "correction", ["created_at"])
    op.create_table(
        "corrected_study",
        text("correction_id", is_given=True),
        sa.Column("study_key", KEY, nullable=False),
        *map(text, ("study_instance_uid", "before", "after")),
        number("instances"),
        sa.PrimaryKeyConstraint("correction_id", "study_key", name="pk_corrected_study"),
    )
    op.create_index(
        "ix_corrected_study_study_instance_uid", "corrected_study", ["study_instance_uid"]
    )
