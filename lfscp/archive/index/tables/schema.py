"""The index's tables, made from the table of attributes: patient, study, series, instance.

Rules: every DICOM value is text as it was received (decoded; padding stripped; multiple values
keep their backslash), and absent or empty is the empty string, never NULL. Sequences are JSON
text, a list of {keyword: value}. Times of our own are integers, milliseconds since 1970 UTC.
Statements stay portable: SQLite for one node, PostgreSQL for several.

A study has the attributes of its patient as its own first object gave them, and queries read them
there. The patient's row groups studies; its attributes are those of one of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from sqlalchemy import (
    BigInteger,
    Column,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    Table,
    UniqueConstraint,
    text,
)

from lfscp.archive.index.tables.dialects import BytewiseText
from lfscp.dicom.values.attributes import Level, at_level

metadata: Final = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "pk": "pk_%(table_name)s",
    }
)

# SQLite's own rowid type is INTEGER only; elsewhere a surrogate key is a BIGINT.
KEY: Final = BigInteger().with_variant(Integer, "sqlite")
TEXT: Final = BytewiseText()


def _looked_through(
    columns: Sequence[str], name: str = "", only: str | None = None
) -> tuple[Index, Index]:
    """An index that is enough to find the keys of rows, and their order where values are equal.

    That of SQLite has the key at its end by itself. That of PostgreSQL is given it: a text that is
    looked for anywhere is then compared without reading the rows, and pages of rows that have the
    same value need no sort.

    Args:
        name: of that of SQLite; "" for the usual one.
        only: SQL of a condition; other rows are not in the index.
    """
    few = None if only is None else text(only)
    with_key = f"{name}_id" if name else None
    return (
        Index(name or None, *columns, sqlite_where=few).ddl_if(dialect="sqlite"),
        Index(with_key, *columns, "id", postgresql_where=few).ddl_if(dialect="postgresql"),
    )


def _several_groups(column: str) -> tuple[Index, Index]:
    """The few names with more than one component group; matching.SEVERAL_GROUPS is its literal."""
    return _looked_through([column], f"ix_{column}_groups", only=f"{column} LIKE '%=%'")


def _folded(column: str) -> tuple[Index, Index]:
    """The names that are not ASCII; matching.EMPTY is in its condition."""
    return _looked_through([column], only=f"{column} != ''")


def text_column(name: str) -> Column[str]:
    """A column of text that is empty unless it is given."""
    return Column(name, TEXT, nullable=False, server_default="")


def _flag(name: str) -> Column[int]:
    return Column(name, Integer, nullable=False, server_default="0")


def attribute_columns(level: Level) -> list[Column[str]]:
    """One text column per attribute of the level, and two more per person name to search in."""
    columns: list[Column[str]] = []
    for attribute in at_level(level):
        columns.append(text_column(attribute.column))
        if attribute.search_column is not None:
            columns.append(text_column(attribute.search_column))
        if attribute.folded_column is not None:
            columns.append(text_column(attribute.folded_column))
    return columns


def identity_columns(table: Table) -> list[Column[str]]:
    """The columns of a patient_identity.PatientIdentity, in its order."""
    names = "patient_id issuer_of_patient_id patient_name_search patient_birth_date patient_sex"
    return [table.c[name] for name in names.split()]


# AUTOINCREMENT: a deleted key is never given out again, so a key remembered by another process
# fails its foreign key instead of naming a stranger's series.
patient: Final = Table(
    "patient",
    metadata,
    Column("id", KEY, primary_key=True),
    *attribute_columns(Level.PATIENT),
    # Without a Patient ID nothing says that two studies are of one patient: this is the study's
    # UID then, and empty otherwise.
    text_column("only_study_uid"),
    _flag("has_conflict"),  # its studies differ in name, birth date or sex
    UniqueConstraint("patient_id", "issuer_of_patient_id", "only_study_uid"),
    *_looked_through(["patient_name_search"]),
    sqlite_autoincrement=True,
)

study: Final = Table(
    "study",
    metadata,
    Column("id", KEY, primary_key=True),
    Column("patient_id_fk", KEY, ForeignKey("patient.id"), nullable=False),
    *attribute_columns(Level.PATIENT),
    *attribute_columns(Level.STUDY),
    _flag("has_conflict"),  # its objects differ in the patient's name, birth date or sex
    Column("received_at", BigInteger, nullable=False),
    Column("updated_at", BigInteger, nullable=False),  # last instance received, to some seconds
    UniqueConstraint("study_instance_uid", "patient_id_fk"),
    Index(None, "patient_id_fk"),
    *_looked_through(["patient_id"]),
    *_looked_through(["patient_name_search"]),
    *_several_groups("patient_name_search"),
    *_folded("patient_name_folded"),
    *_looked_through(["patient_birth_date"]),
    *_looked_through(["study_date", "study_time"]),
    Index(None, "study_time"),
    *_looked_through(["accession_number"]),
    Index(None, "study_id"),
    *_looked_through(["referring_physician_name_search"]),
    *_several_groups("referring_physician_name_search"),
    *_folded("referring_physician_name_folded"),
    *_looked_through(["study_description"]),
    *_looked_through(["received_at"]),
    Index(None, "updated_at"),
    sqlite_autoincrement=True,
)

series: Final = Table(
    "series",
    metadata,
    Column("id", KEY, primary_key=True),
    Column("study_fk", KEY, ForeignKey("study.id"), nullable=False),
    *attribute_columns(Level.SERIES),
    Column("received_at", BigInteger, nullable=False),
    UniqueConstraint("series_instance_uid", "study_fk"),
    Index(None, "study_fk", "modality"),
    Index(None, "modality"),
    Index(None, "series_number"),
    sqlite_autoincrement=True,
)

instance: Final = Table(
    "instance",
    metadata,
    Column("id", KEY, primary_key=True),
    Column("series_fk", KEY, ForeignKey("series.id"), nullable=False),
    *attribute_columns(Level.IMAGE),
    Column("transfer_syntax_uid", TEXT, nullable=False),
    text_column("dataset_character_set"),
    Column("path", TEXT, nullable=False),  # of the file, relative to the objects folder
    Column("dataset_offset", Integer, nullable=False),
    Column("size", BigInteger, nullable=False),  # bytes of the dataset
    Column("file_size", BigInteger, nullable=False),
    Column("digest", TEXT, nullable=False),  # "algorithm:hex" of the dataset's bytes; "" when off
    Column("received_at", BigInteger, nullable=False),
    text_column("calling_ae_title"),
    UniqueConstraint("sop_instance_uid"),
    Index(None, "series_fk", "instance_number"),
)

TABLES: Final = {
    Level.PATIENT: patient,
    Level.STUDY: study,
    Level.SERIES: series,
    Level.IMAGE: instance,
}
