"""The tables of corrections, and of objects that are kept as they were.

`kept_object` has the place of an object whose file another one took: as it came, if a coercion
changed it on its arrival, or as it was before a correction. `correction` has a row for each
correction of a patient or study, `corrected_study` one for each study that it has changed.
"""

from __future__ import annotations

from typing import Final

from sqlalchemy import BigInteger, Column, Index, Integer, PrimaryKeyConstraint, Table

from lfscp.archive.index.tables.schema import KEY, TEXT, metadata, text_column


def _number(name: str) -> Column[int]:
    return Column(name, BigInteger, nullable=False, server_default="0")


kept_object: Final = Table(
    "kept_object",
    metadata,
    Column("id", KEY, primary_key=True),
    Column("sop_instance_uid", TEXT, nullable=False),
    text_column("study_instance_uid"),  # in which it was
    text_column("correction_id"),  # empty: kept on arrival
    text_column("new_path"),  # of the file that took its place; empty on arrival
    Column("path", TEXT, nullable=False),  # as in instance, as are those that follow
    text_column("transfer_syntax_uid"),
    text_column("dataset_character_set"),
    Column("dataset_offset", Integer, nullable=False),
    _number("size"),
    _number("file_size"),
    text_column("digest"),
    text_column("calling_ae_title"),
    _number("kept_at"),
    Index(None, "sop_instance_uid"),
    Index(None, "correction_id"),
    sqlite_autoincrement=True,
)

correction: Final = Table(
    "correction",
    metadata,
    Column("id", TEXT, nullable=False),  # that of its job
    text_column("state"),
    text_column("user"),  # who asked for it
    text_column("changes"),  # JSON: {keyword: new value}
    _number("created_at"),
    _number("ended_at"),
    PrimaryKeyConstraint("id"),
    Index(None, "created_at"),
)

corrected_study: Final = Table(
    "corrected_study",
    metadata,
    Column("correction_id", TEXT, nullable=False),
    Column("study_key", KEY, nullable=False),  # of the row that it had
    text_column("study_instance_uid"),
    text_column("before"),  # JSON: {column: value} of the study's row, as `after`
    text_column("after"),
    _number("instances"),
    PrimaryKeyConstraint("correction_id", "study_key"),
    Index(None, "study_instance_uid"),
)
