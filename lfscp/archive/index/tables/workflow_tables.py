"""The tables of the modality workflow: worklist, performed procedure steps, storage commitment.

They refer to studies and instances by UID and not by row, so that storing an object costs what it
did, and a step may be known before its study. Datasets are explicit VR little endian in UTF-8; the
columns beside them are what is searched for. Times are milliseconds since 1970 UTC. The rows are
read and written in lfscp/archive/workflow.
"""

from __future__ import annotations

from typing import Final

from sqlalchemy import (
    BigInteger,
    Column,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    PrimaryKeyConstraint,
    Table,
    UniqueConstraint,
    text,
)

from lfscp.archive.index.tables.schema import KEY, TEXT, metadata, text_column


def _number(name: str) -> Column[int]:
    return Column(name, BigInteger, nullable=False, server_default="0")


worklist_item: Final = Table(
    "worklist_item",
    metadata,
    Column("id", KEY, primary_key=True),
    Column("source", TEXT, nullable=False),  # where it came from: "api", "hl7", "folder:NODE"
    Column("source_key", TEXT, nullable=False),  # what it is called there: a file, an order, a UUID
    text_column("fingerprint"),  # of the file, as it was when it was read
    Column("dataset", LargeBinary, nullable=False),
    text_column("patient_id"),
    text_column("patient_name_search"),
    text_column("accession_number"),
    text_column("requested_procedure_id"),
    text_column("study_instance_uid"),
    _number("created_at"),
    _number("updated_at"),
    UniqueConstraint("source", "source_key"),
    Index(None, "patient_id"),
    Index(None, "patient_name_search"),
    Index(
        "ix_worklist_item_patient_name_groups",  # those with several groups, as in schema.py
        "patient_name_search",
        sqlite_where=text("patient_name_search LIKE '%=%'"),
        postgresql_where=text("patient_name_search LIKE '%=%'"),
    ),
    Index(None, "accession_number"),
    Index(None, "requested_procedure_id"),
    Index(None, "study_instance_uid"),
    sqlite_autoincrement=True,
)

# A row for each station of each step: one that any of two stations may perform has two.
worklist_step: Final = Table(
    "worklist_step",
    metadata,
    Column("item_id", KEY, ForeignKey("worklist_item.id"), nullable=False),
    Column("position", Integer, nullable=False),  # of the step in its item, from 0
    Column("station_ae_title", TEXT, nullable=False),
    text_column("step_id"),
    text_column("modality"),
    text_column("start_date"),
    text_column("start_time"),
    text_column("status"),  # SCHEDULED, …, STARTED, COMPLETED, DISCONTINUED
    text_column("procedure_step_uid"),  # of the performed step that says so
    PrimaryKeyConstraint("item_id", "position", "station_ae_title"),
    Index(None, "start_date", "start_time"),
    Index(None, "modality", "start_date", "start_time"),
    Index(None, "station_ae_title", "start_date", "start_time"),
    Index(None, "status"),
)

procedure_step: Final = Table(
    "procedure_step",
    metadata,
    Column("id", KEY, primary_key=True),
    Column("sop_instance_uid", TEXT, nullable=False),
    Column("status", TEXT, nullable=False),  # IN PROGRESS, COMPLETED, DISCONTINUED
    text_column("revision"),  # another one with each change
    Column("dataset", LargeBinary, nullable=False),
    text_column("calling_ae_title"),
    text_column("patient_id"),
    text_column("patient_name"),
    text_column("patient_name_search"),
    text_column("modality"),
    text_column("station_ae_title"),
    text_column("start_date"),
    text_column("start_time"),
    text_column("study_instance_uid"),
    text_column("accession_number"),
    _number("created_at"),
    _number("updated_at"),
    UniqueConstraint("sop_instance_uid"),
    Index(None, "study_instance_uid"),
    Index(None, "status"),
    Index(None, "updated_at"),
    sqlite_autoincrement=True,
)

# What peers ask this node to commit to.
commitment: Final = Table(
    "commitment",
    metadata,
    Column("id", KEY, primary_key=True),
    Column("transaction_uid", TEXT, nullable=False),
    Column("request", LargeBinary, nullable=False),  # the Action Information, as a dataset
    Column("calling_ae_title", TEXT, nullable=False),
    Column("called_ae_title", TEXT, nullable=False),
    text_column("ae_title"),  # of the nodes that answer for it
    text_column("peer_address"),
    text_column("state"),
    text_column("failures"),  # JSON: [[SOP class UID, SOP instance UID, failure reason], …]
    text_column("reason"),  # why the report could not be sent the last time
    _number("instances"),
    _number("failed"),
    _number("created_at"),
    _number("verified_at"),
    _number("report_since"),
    _number("reported_at"),
    _number("attempts"),
    _number("next_attempt_at"),
    text_column("held_by"),  # the process that works on it now, until `held_until`
    _number("held_until"),
    Index(None, "state", "next_attempt_at"),
    Index(None, "transaction_uid"),
    Index(None, "created_at"),
    sqlite_autoincrement=True,
)

committed_study: Final = Table(
    "committed_study",
    metadata,
    Column("study_instance_uid", TEXT, nullable=False),
    _number("committed_at"),  # the last time that one of its instances was
    PrimaryKeyConstraint("study_instance_uid"),
)

# What this node asks peers to commit to.
commitment_request: Final = Table(
    "commitment_request",
    metadata,
    Column("transaction_uid", TEXT, nullable=False),
    Column("ae_title", TEXT, nullable=False),  # of the peer
    text_column("job_id"),  # of the job that waits for the report, if one does
    text_column("state"),
    text_column("asked"),  # JSON: [[SOP class UID, SOP instance UID], …]
    text_column("result"),  # JSON of what is not committed to, as `commitment.failures`; or empty
    _number("instances"),
    _number("created_at"),  # when the peer was asked
    _number("ended_at"),
    PrimaryKeyConstraint("transaction_uid"),
    Index(None, "job_id"),
    Index(None, "created_at"),
)
