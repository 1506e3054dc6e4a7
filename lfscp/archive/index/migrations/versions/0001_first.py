"""The first schema: patient, study, series, instance."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from lfscp.archive.index.tables.dialects import BytewiseText

revision = "0001"
down_revision = None

KEY = sa.BigInteger().with_variant(sa.Integer, "sqlite")
TEXT = BytewiseText()


def text(name: str) -> sa.Column[str]:
    """A DICOM value as text; absent and empty are the same."""
    return sa.Column(name, TEXT, nullable=False, server_default="")


def create_patient() -> None:
    op.create_table(
        "patient",
        sa.Column("id", KEY, nullable=False),
        text("patient_id"),
        text("patient_name"),
        text("patient_name_search"),
        text("issuer_of_patient_id"),
        text("patient_birth_date"),
        text("patient_birth_time"),
        text("patient_sex"),
        text("other_patient_ids"),
        text("other_patient_names"),
        text("other_patient_names_search"),
        text("ethnic_group"),
        text("patient_comments"),
        sa.PrimaryKeyConstraint("id", name="pk_patient"),
        sa.UniqueConstraint(
            "patient_id", "issuer_of_patient_id", name="uq_patient_patient_id_issuer_of_patient_id"
        ),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_patient_patient_birth_date", "patient", ["patient_birth_date"])
    op.create_index("ix_patient_patient_name_search", "patient", ["patient_name_search"])


def create_study() -> None:
    op.create_table(
        "study",
        sa.Column("id", KEY, nullable=False),
        sa.Column("patient_id_fk", KEY, nullable=False),
        text("study_instance_uid"),
        text("study_date"),
        text("study_time"),
        text("accession_number"),
        text("study_id"),
        text("study_description"),
        text("referring_physician_name"),
        text("referring_physician_name_search"),
        text("name_of_physicians_reading_study"),
        text("name_of_physicians_reading_study_search"),
        text("admitting_diagnoses_description"),
        text("patient_age"),
        text("patient_size"),
        text("patient_weight"),
        text("occupation"),
        text("additional_patient_history"),
        text("procedure_code_sequence"),
        sa.Column("received_at", sa.BigInteger, nullable=False),
        sa.Column("updated_at", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_study"),
        sa.ForeignKeyConstraint(["patient_id_fk"], ["patient.id"], name="fk_study_patient_id_fk"),
        sa.UniqueConstraint("study_instance_uid", name="uq_study_study_instance_uid"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_study_accession_number", "study", ["accession_number"])
    op.create_index("ix_study_patient_id_fk", "study", ["patient_id_fk"])
    op.create_index(
        "ix_study_referring_physician_name_search", "study", ["referring_physician_name_search"]
    )
    op.create_index("ix_study_study_date_study_time", "study", ["study_date", "study_time"])
    op.create_index("ix_study_study_id", "study", ["study_id"])
    op.create_index("ix_study_study_time", "study", ["study_time"])
    op.create_index("ix_study_updated_at", "study", ["updated_at"])


def create_series() -> None:
    op.create_table(
        "series",
        sa.Column("id", KEY, nullable=False),
        sa.Column("study_fk", KEY, nullable=False),
        text("series_instance_uid"),
        text("modality"),
        text("series_number"),
        text("series_description"),
        text("series_date"),
        text("series_time"),
        text("laterality"),
        text("body_part_examined"),
        text("protocol_name"),
        text("performing_physician_name"),
        text("performing_physician_name_search"),
        text("operators_name"),
        text("operators_name_search"),
        text("institution_name"),
        text("institutional_department_name"),
        text("station_name"),
        text("manufacturer"),
        text("manufacturer_model_name"),
        text("performed_procedure_step_id"),
        text("performed_procedure_step_start_date"),
        text("performed_procedure_step_start_time"),
        text("request_attributes_sequence"),
        sa.Column("received_at", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_series"),
        sa.ForeignKeyConstraint(["study_fk"], ["study.id"], name="fk_series_study_fk"),
        sa.UniqueConstraint("series_instance_uid", name="uq_series_series_instance_uid"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_series_modality", "series", ["modality"])
    op.create_index("ix_series_series_number", "series", ["series_number"])
    op.create_index("ix_series_study_fk_modality", "series", ["study_fk", "modality"])


def create_instance() -> None:
    op.create_table(
        "instance",
        sa.Column("id", KEY, nullable=False),
        sa.Column("series_fk", KEY, nullable=False),
        text("sop_instance_uid"),
        text("sop_class_uid"),
        text("instance_number"),
        text("content_date"),
        text("content_time"),
        text("acquisition_date"),
        text("acquisition_time"),
        text("acquisition_date_time"),
        text("acquisition_number"),
        text("image_type"),
        text("number_of_frames"),
        text("rows"),
        text("columns"),
        text("bits_allocated"),
        text("completion_flag"),
        text("verification_flag"),
        text("content_label"),
        text("concept_name_code_sequence"),
        sa.Column("transfer_syntax_uid", TEXT, nullable=False),
        text("specific_character_set"),
        sa.Column("path", TEXT, nullable=False),
        sa.Column("dataset_offset", sa.Integer, nullable=False),
        sa.Column("size", sa.BigInteger, nullable=False),
        sa.Column("file_size", sa.BigInteger, nullable=False),
        sa.Column("digest", TEXT, nullable=False),
        sa.Column("received_at", sa.BigInteger, nullable=False),
        text("calling_ae_title"),
        sa.PrimaryKeyConstraint("id", name="pk_instance"),
        sa.UniqueConstraint("sop_instance_uid", name="uq_instance_sop_instance_uid"),
        sa.ForeignKeyConstraint(["series_fk"], ["series.id"], name="fk_instance_series_fk"),
    )
    op.create_index(
        "ix_instance_series_fk_instance_number", "instance", ["series_fk", "instance_number"]
    )


def upgrade() -> None:
    create_patient()
    create_study()
    create_series()
    create_instance()
