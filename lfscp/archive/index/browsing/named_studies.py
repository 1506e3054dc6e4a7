"""Names stored studies for people: whose they are, of which day, and what they show.

Statements take lists in pieces of bounded size.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

from sqlalchemy import Connection, select

from lfscp.archive.index.removal import pieces_of
from lfscp.archive.index.tables.schema import study


class NamedStudy(NamedTuple):
    """What people call a study by; texts as the index has them."""

    study_instance_uid: str
    patient_name: str
    patient_id: str
    study_date: str
    study_description: str


_NAMES = tuple(study.c[name] for name in NamedStudy._fields)


def named_studies(connection: Connection, study_uids: Collection[str]) -> dict[str, NamedStudy]:
    """The studies that are stored, by UID; of studies that share one, the oldest."""
    found: dict[str, NamedStudy] = {}
    for piece in pieces_of(study_uids):
        wanted = select(*_NAMES).where(study.c.study_instance_uid.in_(piece)).order_by(study.c.id)
        for row in connection.execute(wanted):
            found.setdefault(row[0], NamedStudy(*row))
    return found
