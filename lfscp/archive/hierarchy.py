"""Finds or makes the rows above an instance: its series, study and patient (PS3.4 section C.6).

Rules: an instance belongs to the patient, study and series that it names itself, also where their
identifiers are shared against the standard: a Series Instance UID counts within its study, a Study
Instance UID within its patient. A patient is a Patient ID and its issuer; without a Patient ID each
study has a patient of its own. An object that leaves out what the study's others say belongs to
their study. Rows that are there stay as they are; what contradicts them is marked, and noted once.
Notes hold no patient data.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from lfscp.archive.attributes import Level
from lfscp.archive.header import Header
from lfscp.archive.person_names import GROUP_DELIMITER, search_form
from lfscp.archive.rows import PATIENT_ID, KnownSeries, texts
from lfscp.archive.statements import Statements

ISSUER_OF_PATIENT_ID: Final = 0x00100021
PATIENT_NAME: Final = 0x00100010
PATIENT_BIRTH_DATE: Final = 0x00100030
PATIENT_SEX: Final = 0x00100040
_SPECIFIC_CHARACTER_SET: Final = 0x00080005
_SAID_OF_PATIENT: Final = (
    PATIENT_ID,
    ISSUER_OF_PATIENT_ID,
    PATIENT_NAME,
    PATIENT_BIRTH_DATE,
    PATIENT_SEX,
    _SPECIFIC_CHARACTER_SET,
)
_OBJECTS_DIFFER: Final = "its study has objects with another name, birth date or sex of the patient"
_STUDIES_DIFFER: Final = "other studies of its Patient ID have another name, birth date or sex"
_UID_OF_SEVERAL: Final = "another patient has a study with its Study Instance UID"
_SERIES_UID_OF_SEVERAL: Final = "another study has a series with its Series Instance UID"


class RowVanishedError(Exception):
    """What had kept a row from being inserted was deleted before it could be read."""


@dataclass(frozen=True, slots=True)
class PatientIdentity:
    """Whom an object or a row is about; the name is in search form."""

    patient_id: str
    issuer: str
    name: str
    birth_date: str
    sex: str

    @classmethod
    def of(cls, header: Header) -> PatientIdentity:
        """Whom an object is about."""
        said = [text.replace("\0", "\ufffd") for text in header.texts(_SAID_OF_PATIENT[:5])]
        patient_id, issuer, name, birth_date, sex = said  # as rows.texts gives them
        return cls(patient_id, issuer, search_form(name), birth_date, sex)

    @property
    def is_complete(self) -> bool:
        """Whether it says all that `contradicts` looks at."""
        return bool(self.name and self.birth_date and self.sex)

    def contradicts(self, other: PatientIdentity) -> bool:
        """Whether both say something else of name, birth date or sex."""
        names = (identity.name.split(GROUP_DELIMITER) for identity in (self, other))
        pairs = [(self.birth_date, other.birth_date), (self.sex, other.sex)]
        pairs += zip(*names, strict=False)  # of groups that one lacks nothing is said
        return any(ours and theirs and ours != theirs for ours, theirs in pairs)

    def has_same_key(self, other: PatientIdentity) -> bool:
        """Whether Patient ID and issuer are the same, or both lack them."""
        return (self.patient_id, self.issuer) == (other.patient_id, other.issuer)

    def may_be(self, other: PatientIdentity) -> bool:
        """Whether this one says less than another, and nothing else."""
        if self.patient_id:
            return self.patient_id == other.patient_id and not self.issuer
        return not self.contradicts(other)


def said_of_patient(header: Header) -> tuple[bytes | None, ...]:
    """The bytes that decide whose an object is; cheap to compare with those of the last one."""
    return header.raw(_SAID_OF_PATIENT)


class Hierarchy:
    """Finds and makes rows with the driver's cursor, in a transaction of its caller."""

    def __init__(self, statements: Statements) -> None:
        self._statements = statements

    def series_of(self, cursor: Any, header: Header, now: int) -> tuple[KnownSeries, list[str]]:
        """The series that an object belongs to, made when it is new, and what is worth a note.

        Args:
            now: ms since 1970.
        Raises:
            RowVanishedError: another node deleted what this one had found.
        """
        notes: list[str] = []
        study_key = self._study(cursor, header, now, notes)
        find, uid = self._statements.find_series, (header.series_instance_uid,)
        keys = {study_fk: key for key, study_fk in find.run(cursor, uid).fetchall()}
        if study_key not in keys:
            if keys:
                notes.append(_SERIES_UID_OF_SEVERAL)
            values = [study_key, *texts(header, Level.SERIES), now]
            self._statements.insert_series.run(cursor, values)
            keys = {study_fk: key for key, study_fk in find.run(cursor, uid).fetchall()}
        if study_key not in keys:
            raise RowVanishedError
        return KnownSeries(keys[study_key], study_key, said_of_patient(header)), notes

    def _study(self, cursor: Any, header: Header, now: int, notes: list[str]) -> int:
        uid = header.study_instance_uid
        rows = self._statements.find_studies.run(cursor, (uid,)).fetchall()
        found = [(int(key), PatientIdentity(*said)) for key, *said in rows]
        identity = PatientIdentity.of(header)
        own = _own(identity, found)
        if own is None:
            if found:
                notes.append(_UID_OF_SEVERAL)
            return self._new_study(cursor, header, now, notes)
        key, of_study = own
        if identity.contradicts(of_study) and self._mark_study(cursor, key):
            notes.append(_OBJECTS_DIFFER)
        return key

    def _new_study(self, cursor: Any, header: Header, now: int, notes: list[str]) -> int:
        patient_key = self.patient_of(cursor, header, notes)
        attributes = [*texts(header, Level.PATIENT), *texts(header, Level.STUDY)]
        values = [patient_key, *attributes, 0, now, now]
        self._statements.insert_study.run(cursor, values)
        find = self._statements.find_study
        row = find.run(cursor, (header.study_instance_uid, patient_key)).fetchone()
        if row is None:
            raise RowVanishedError
        return int(row[0])

    def patient_of(self, cursor: Any, header: Header, notes: list[str]) -> int:
        """The patient of a study, made when it is new."""
        identity = PatientIdentity.of(header)
        only_study_uid = "" if identity.patient_id else header.study_instance_uid
        unique = (identity.patient_id, identity.issuer, only_study_uid)
        find = self._statements.find_patient
        row = find.run(cursor, unique).fetchone()
        if row is None:
            values = [*texts(header, Level.PATIENT), only_study_uid, 0]
            self._statements.insert_patient.run(cursor, values)
            row = find.run(cursor, unique).fetchone()
        if row is None:
            raise RowVanishedError
        key, *said = row
        known = PatientIdentity(*said)
        if identity.contradicts(known):
            self._statements.mark_patient.run(cursor, (key,))
            notes.append(_STUDIES_DIFFER)
        elif not known.is_complete:
            name = header.text(PATIENT_NAME).replace("\0", "\ufffd")
            completing = (name, identity.name, identity.birth_date, identity.sex, key)
            self._statements.complete_patient.run(cursor, completing)
        return int(key)

    def _mark_study(self, cursor: Any, key: int) -> bool:
        """Mark a conflict; False when it was marked before."""
        return bool(self._statements.mark_study.run(cursor, (key,)).rowcount)


def _own(
    identity: PatientIdentity, studies: Sequence[tuple[int, PatientIdentity]]
) -> tuple[int, PatientIdentity] | None:
    """Of the studies with an object's UID the one that it belongs to."""
    for study in studies:
        if identity.has_same_key(study[1]):
            return study
    return next((study for study in studies if identity.may_be(study[1])), None)
