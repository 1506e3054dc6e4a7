"""The tables of the modality workflow: worklist, performed procedure steps, storage commitment."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from lfscp.archive.index.tables.dialects import BytewiseText

revision = "0007"
down_revision = "0006"

KEY = sa.BigInteger().with_variant(sa.Integer, "sqlite")
TEXT = BytewiseText()


def key(name: str = "id") -> sa.Column[int]:
    return sa.Column(name, KEY, nullable=False)


def text(name: str, *, is_given: bool = False) -> sa.Column[str]:
    return sa.Column(name, TEXT, nullable=False, server_default=None if is_given else "")


def number(name: str) -> sa.Column[int]:
    return sa.Column(name, sa.BigInteger, nullable=False, server_default="0")


def data(name: str) -> sa.Column[bytes]:
    return sa.Column(name, sa.LargeBinary, nullable=False)


def upgrade() -> None:
    """Make the tables."""
    _worklist()
    _procedure_steps()
    _commitments()


def _worklist() -> None:
    op.create_table(
        "worklist_item",
        key(),
        text("source", is_given=True),
        text("source_key", is_given=True),
        text("fingerprint"),
        data("dataset"),
        *map(text, ("patient_id", "patient_name_search", "accession_number")),
        *map(text, ("requested_procedure_id", "study_instance_uid")),
        *map(number, ("created_at", "updated_at")),
        sa.PrimaryKeyConstraint("id", name="pk_worklist_item"),
        sa.UniqueConstraint("source", "source_key", name="uq_worklist_item_source_source_key"),
        sqlite_autoincrement=True,
    )
    _index("worklist_item", "patient_id")
    _index("worklist_item", "patient_name_search")
    few = sa.text("patient_name_search LIKE '%=%'")
    op.create_index(
        "ix_worklist_item_patient_name_groups",
        "worklist_item",
        ["patient_name_search"],
        sqlite_where=few,
        postgresql_where=few,
    )
    _index("worklist_item", "accession_number")
    _index("worklist_item", "requested_procedure_id")
    _index("worklist_item", "study_instance_uid")
    op.create_table(
        "worklist_step",
        key("item_id"),
        sa.Column("position", sa.Integer, nullable=False),
        text("station_ae_title", is_given=True),
        *map(text, ("step_id", "modality", "start_date", "start_time")),
        *map(text, ("status", "procedure_step_uid")),
        sa.PrimaryKeyConstraint("item_id", "position", "station_ae_title", name="pk_worklist_step"),
        sa.ForeignKeyConstraint(["item_id"], ["worklist_item.id"], name="fk_worklist_step_item_id"),
    )
    _index("worklist_step", "start_date", "start_time")
    _index("worklist_step", "modality", "start_date", "start_time")
    _index("worklist_step", "station_ae_title", "start_date", "start_time")
    _index("worklist_step", "status")


def _procedure_steps() -> None:
    op.create_table(
        "procedure_step",
        key(),
        text("sop_instance_uid", is_given=True),
        text("status", is_given=True),
        text("revision"),
        data("dataset"),
        *map(text, ("calling_ae_title", "patient_id", "patient_name", "patient_name_search")),
        *map(text, ("modality", "station_ae_title", "start_date", "start_time")),
        *map(text, ("study_instance_uid", "accession_number")),
        *map(number, ("created_at", "updated_at")),
        sa.PrimaryKeyConstraint("id", name="pk_procedure_step"),
        sa.UniqueConstraint("sop_instance_uid", name="uq_procedure_step_sop_instance_uid"),
        sqlite_autoincrement=True,
    )
    _index("procedure_step", "study_instance_uid")
    _index("procedure_step", "status")
    _index("procedure_step", "updated_at")


def _commitments() -> None:
    op.create_table(
        "commitment",
        key(),
        text("transaction_uid", is_given=True),
        data("request"),
        text("calling_ae_title", is_given=True),
        text("called_ae_title", is_given=True),
        *map(text, ("ae_title", "peer_address", "state", "failures", "reason")),
        *map(number, ("instances", "failed", "created_at", "verified_at", "report_since")),
        *map(number, ("reported_at", "attempts", "next_attempt_at")),
        text("held_by"),
        number("held_until"),
        sa.PrimaryKeyConstraint("id", name="pk_commitment"),
        sqlite_autoincrement=True,
    )
    _index("commitment", "state", "next_attempt_at")
    _index("commitment", "transaction_uid")
    _index("commitment", "created_at")
    op.create_table(
        "committed_study",
        text("study_instance_uid", is_given=True),
        number("committed_at"),
        sa.PrimaryKeyConstraint("study_instance_uid", name="pk_committed_study"),
    )
    op.create_table(
        "commitment_request",
        text("transaction_uid", is_given=True),
        text("ae_title", is_given=True),
        *map(text, ("job_id", "state", "asked", "result")),
        *map(number, ("instances", "created_at", "ended_at")),
        sa.PrimaryKeyConstraint("transaction_uid", name="pk_commitment_request"),
    )
    _index("commitment_request", "job_id")
    _index("commitment_request", "created_at")


def _index(table: str, *columns: str) -> None:
    op.create_index(f"ix_{table}_{'_'.join(columns)}", table, list(columns))
