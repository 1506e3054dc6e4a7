"""Finds or makes the rows above an instance: its series, study and patient (PS3.4 section C.6).

Rules: an instance belongs to the patient, study and series that it names itself, even where their
identifiers are shared against the standard: a Series Instance UID counts within its study, a Study
Instance UID within its patient. Without a Patient ID each study has a patient of its own. An object
that says less of its patient than the only study with its UID belongs to that study. A study learns
what it did not know, and then belongs to the patient with these attributes. Known values stay; an
object that contradicts them is marked and noted. Notes hold no patient data.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from lfscp.archive.index.database.statements import Statements
from lfscp.archive.index.patient_identity import PatientIdentity, said_of_patient
from lfscp.archive.index.rows import KnownSeries, texts
from lfscp.dicom.reading.header import Header
from lfscp.dicom.values.attributes import Level

OBJECTS_DIFFER: Final = "its study has objects with another name, birth date or sex of the patient"
STUDIES_DIFFER: Final = "other studies of its Patient ID have another name, birth date or sex"
_UID_OF_SEVERAL: Final = "another patient has a study with its Study Instance UID"
_SERIES_UID_OF_SEVERAL: Final = "another study has a series with its Series Instance UID"


class RowVanishedError(Exception):
    """What had kept a row from being inserted was deleted before it could be read."""


class StudyRow(NamedTuple):
    """A study as it was found."""

    key: int
    patient_key: int
    identity: PatientIdentity


class Hierarchy:
    """Finds and makes rows with the driver's cursor, in a transaction of its caller."""

    def __init__(self, statements: Statements) -> None:
        self._statements = statements

    def series_of(self, cursor: Any, header: Header, now: int) -> tuple[KnownSeries, list[str]]:
        """The series that an object belongs to, made when it is new, and notes for the log.

        Args:
            now: ms since 1970.
        Raises:
            RowVanishedError: another node deleted what this one had found.
        """
        notes: list[str] = []
        study_key, is_new = self._study(cursor, header, now, notes)
        find, uid = self._statements.find_series, (header.series_instance_uid,)
        keys = {study_fk: key for key, study_fk in find.run(cursor, uid).fetchall()}
        if study_key not in keys:
            if keys:
                notes.append(_SERIES_UID_OF_SEVERAL)
            values = [study_key, *texts(header, Level.SERIES), now]
            added = self._statements.insert_series.run(cursor, values).fetchone()
            if added is not None:
                keys = {study_key: added[0]}
            else:
                keys = {study_fk: key for key, study_fk in find.run(cursor, uid).fetchall()}
        if study_key not in keys:
            raise RowVanishedError
        touched_at = now if is_new else 0
        return KnownSeries(keys[study_key], study_key, said_of_patient(header), touched_at), notes

    def studies_of(self, cursor: Any, study_uid: str) -> list[StudyRow]:
        """The studies with a UID, which should be one, the oldest first."""
        rows = self._statements.find_studies.run(cursor, (study_uid,)).fetchall()
        return [StudyRow(key, fk, PatientIdentity(*said)) for key, fk, *said in rows]

    def patient_of(self, cursor: Any, header: Header, identity: PatientIdentity) -> int:
        """The patient that an object's study has, made when it is new.

        Args:
            identity: Patient ID and issuer, as the object or others of its study say.
        """
        return self._patient(cursor, header, identity)[0]

    def _patient(self, cursor: Any, header: Header, identity: PatientIdentity) -> tuple[int, bool]:
        """The same, and whether it is certain that it was made just now."""
        unique = _unique_key(header, identity)
        find, added = self._statements.find_patient, None
        row = find.run(cursor, unique).fetchone()
        if row is None:
            values = [*texts(header, Level.PATIENT), unique[-1], 0]
            added = self._statements.insert_patient.run(cursor, values).fetchone()
            row = added or find.run(cursor, unique).fetchone()
        if row is None:
            raise RowVanishedError
        return int(row[0]), added is not None

    def read_again(self, cursor: Any, study_key: int) -> None:
        """Have all objects of a study read, since its values may come from other objects."""
        self._statements.read_again.run(cursor, (study_key,))

    def complete(self, cursor: Any, header: Header, study_key: int) -> None:
        """Let a study know what an object of it says and the study does not know."""
        for own in self.studies_of(cursor, header.study_instance_uid):
            if own.key == study_key:
                self._complete(cursor, header, own, [])

    def _study(self, cursor: Any, header: Header, now: int, notes: list[str]) -> tuple[int, bool]:
        """The study of an object, made when it is new, and whether it was made just now."""
        identity = PatientIdentity.of(header)
        found = self.studies_of(cursor, header.study_instance_uid)
        own, is_new = own_study(identity, found), False
        if own is None:
            if found:
                notes.append(_UID_OF_SEVERAL)
            key, is_new = self._add_study(cursor, header, identity, now, notes)
            if key is not None:
                return key, True
            # Another node may have added it just before, with what its object said.
            own = own_study(identity, self.studies_of(cursor, header.study_instance_uid))
        if own is None:
            raise RowVanishedError
        if identity.contradicts(own.identity):
            if self._statements.mark_study.run(cursor, (own.key,)).rowcount:
                notes.append(OBJECTS_DIFFER)
        elif identity.adds_to(own.identity):
            self._complete(cursor, header, own, notes)
        return own.key, is_new

    def _add_study(
        self, cursor: Any, header: Header, identity: PatientIdentity, now: int, notes: list[str]
    ) -> tuple[int | None, bool]:
        """Make a study, unless somebody else was faster.

        Returns:
            Its key, if it was made and the database tells it, and whether it was made.
        """
        patient_key, is_new = self._patient(cursor, header, identity)
        attributes = [*texts(header, Level.PATIENT), *texts(header, Level.STUDY)]
        values = [patient_key, *attributes, 0, now, now]
        added = self._statements.insert_study.run(cursor, values)
        is_added, row = added.rowcount > 0, added.fetchone()
        if is_added and not is_new:  # a new patient has no other study
            self._compare_with_others(cursor, header, identity, notes)
        return None if row is None else int(row[0]), is_added

    def _complete(self, cursor: Any, header: Header, own: StudyRow, notes: list[str]) -> None:
        """Let a study know what its first objects left out, and belong to that patient."""
        identity = own.identity.completed_by(PatientIdentity.of(header))
        patient_key = self.patient_of(cursor, header, identity)
        values = [patient_key, *texts(header, Level.PATIENT), own.key]
        self._statements.complete_study.run(cursor, values)
        if patient_key != own.patient_key:
            self._statements.delete_patient_without_study.run(cursor, (own.patient_key,))
        self._compare_with_others(cursor, header, identity, notes)

    def _compare_with_others(
        self, cursor: Any, header: Header, identity: PatientIdentity, notes: list[str]
    ) -> None:
        """Mark a patient whose studies contradict each other, or complete what is known of it."""
        find, unique = self._statements.find_patient, _unique_key(header, identity)
        for attempt in range(2):  # another node may complete it as well
            row = find.run(cursor, unique).fetchone()
            if row is None:
                raise RowVanishedError
            key, *said = row
            known = PatientIdentity(*said)
            if identity.contradicts(known):
                self._statements.mark_patient.run(cursor, (key,))
                notes.append(STUDIES_DIFFER)
                return
            if attempt or not identity.adds_to(known):
                return
            values = [*texts(header, Level.PATIENT), *unique]
            self._statements.complete_patient.run(cursor, values)


def _unique_key(header: Header, identity: PatientIdentity) -> tuple[str, str, str]:
    """What names a patient's row: without a Patient ID it is the study's alone."""
    only_study_uid = "" if identity.patient_id else header.study_instance_uid
    return identity.patient_id, identity.issuer, only_study_uid


def own_study(identity: PatientIdentity, studies: Sequence[StudyRow]) -> StudyRow | None:
    """Of the studies with an object's UID the one that it belongs to; None when it is not sure."""
    for study in studies:
        if identity.has_same_key(study.identity):
            return study
    possible = [
        study
        for study in studies
        if identity.may_be(study.identity) or study.identity.may_be(identity)
    ]
    return possible[0] if len(possible) == 1 else None
