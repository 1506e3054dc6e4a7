"""What the index knows of a study beside its attributes: its labels, and who sent it.

`study_label` names studies by UID and not by row, as `protection` does. `study_source` has a row
for each AE title that sent an instance of a study: it is written when the title is new to the
study, so that a list of studies need not look at every instance.
"""

from __future__ import annotations

from typing import Final

from sqlalchemy import Column, ForeignKey, Index, Table

from lfscp.archive.index.tables.schema import KEY, TEXT, metadata

study_label: Final = Table(
    "study_label",
    metadata,
    Column("study_instance_uid", TEXT, primary_key=True),
    Column("label", TEXT, primary_key=True),
    Index(None, "label", "study_instance_uid"),
)

study_source: Final = Table(
    "study_source",
    metadata,
    Column(
        "study_fk",
        KEY,
        ForeignKey("study.id", ondelete="CASCADE"),
        primary_key=True,
        autoincrement=False,
    ),
    Column("calling_ae_title", TEXT, primary_key=True),
    Index(None, "calling_ae_title", "study_fk"),
)
