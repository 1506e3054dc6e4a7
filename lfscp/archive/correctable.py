"""Finds what a correction is about: studies, patients, and what would change of them.

Functions run in a transaction of their caller.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from pydicom.datadict import tag_for_keyword
from sqlalchemy import Connection, select

from lfscp.archive.correcting import CORRECTABLE, OF_PATIENT
from lfscp.archive.index.protection import protected_among
from lfscp.archive.index.removal import pieces_of
from lfscp.archive.index.tables.schema import patient, study
from lfscp.dicom.values.attributes import BY_TAG

COLUMNS: Final = {keyword: BY_TAG[tag_for_keyword(keyword) or 0].column for keyword in CORRECTABLE}
MAX_STUDIES: Final = 10_000  # of one correction
Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Asked:
    """A correction that somebody asks for.

    Args:
        rows: of the studies that change.
        changes: new values by keyword.
    """

    rows: Sequence[Row]
    changes: Mapping[str, str]

    @property
    def differences(self) -> list[dict[str, Any]]:
        """What changes: keyword, the values before, and the value after."""
        found = []
        for keyword, after in self.changes.items():
            before = sorted({str(row[COLUMNS[keyword]]) for row in self.rows})
            if before != [after]:
                found.append({"keyword": keyword, "before": before, "after": after})
        return found


def studies_named(connection: Connection, study_uid: str) -> list[Row]:
    """The studies with a UID: several, if several patients have it."""
    return _studies(connection, study.c.study_instance_uid == study_uid)


def studies_of(connection: Connection, patient_key: int) -> list[Row]:
    """The studies of a patient; one more than `MAX_STUDIES` at most."""
    return _studies(connection, study.c.patient_id_fk == patient_key)


def _studies(connection: Connection, condition: Any) -> list[Row]:
    wanted = select(study).where(condition).order_by(study.c.id).limit(MAX_STUDIES + 1)
    return [dict(row) for row in connection.execute(wanted).mappings()]


def patients_named(connection: Connection, patient_id: str, issuer: str = "") -> list[int]:
    """The keys of the patients with a Patient ID; with an issuer too, if it is given."""
    wanted = select(patient.c.id).where(patient.c.patient_id == patient_id)
    if issuer:
        wanted = wanted.where(patient.c.issuer_of_patient_id == issuer)
    return [int(key) for key in connection.execute(wanted).scalars()] if patient_id else []


def identity_of(connection: Connection, patient_key: int) -> dict[str, str] | None:
    """What the objects of a patient say of it, by keyword; None if there is no such patient."""
    wanted = select(patient).where(patient.c.id == patient_key)
    row = connection.execute(wanted).mappings().first()
    return None if row is None else {word: str(row[COLUMNS[word]]) for word in OF_PATIENT}


def first_protected(connection: Connection, rows: Sequence[Row]) -> str:
    """The UID of a study that is protected; empty if none is."""
    for piece in pieces_of(str(row["study_instance_uid"]) for row in rows):
        for uid in protected_among(connection, piece):
            return uid
    return ""
