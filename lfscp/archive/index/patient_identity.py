"""Compares what objects, studies and patients' rows say of a patient: may two be one person?

Rules: pure. A Patient ID and its issuer name a patient. One that says less than another, and
nothing else, may be the same. A different name, birth date or sex is a contradiction; where the
Patient IDs are the same, it decides nothing by itself.
Source: PS3.3 section C.7.1.1; PS3.4 section C.6.
"""

from __future__ import annotations

from dataclasses import astuple, dataclass
from itertools import combinations
from typing import TYPE_CHECKING, Final

from lfscp.dicom.values.attributes import SPECIFIC_CHARACTER_SET
from lfscp.dicom.values.person_names import GROUP_DELIMITER, search_form

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lfscp.dicom.reading.header import Header

PATIENT_ID: Final = 0x00100020
ISSUER_OF_PATIENT_ID: Final = 0x00100021
PATIENT_NAME: Final = 0x00100010
_PATIENT_BIRTH_DATE: Final = 0x00100030
_PATIENT_SEX: Final = 0x00100040
_TAGS: Final = (PATIENT_ID, ISSUER_OF_PATIENT_ID, PATIENT_NAME, _PATIENT_BIRTH_DATE, _PATIENT_SEX)
_SAID: Final = (*_TAGS, SPECIFIC_CHARACTER_SET)
MAX_TEXT: Final = 300  # characters; two of them, in four bytes each, go into one index
_MAX_COMPARED: Final = 100  # more identities of one patient are a conflict without a look


@dataclass(frozen=True, slots=True)
class PatientIdentity:
    """A patient's attributes; the name is in search form, an absent value is empty."""

    patient_id: str = ""
    issuer: str = ""
    name: str = ""
    birth_date: str = ""
    sex: str = ""

    @classmethod
    def of(cls, header: Header) -> PatientIdentity:
        """The patient of an object."""
        said = [text.replace("\0", "\ufffd") for text in header.texts(_TAGS)]  # as rows.texts does
        patient_id, issuer, name, birth_date, sex = said
        return cls(patient_id, issuer, search_form(name), birth_date, sex)

    def contradicts(self, other: PatientIdentity) -> bool:
        """Whether both say something else of name, birth date or sex."""
        names = (identity.name.split(GROUP_DELIMITER) for identity in (self, other))
        pairs = [(self.birth_date, other.birth_date), (self.sex, other.sex)]
        pairs += zip(*names, strict=False)  # of groups that one lacks nothing is said
        return any(ours and theirs and ours != theirs for ours, theirs in pairs)

    def has_same_key(self, other: PatientIdentity) -> bool:
        """Whether Patient ID and issuer are the same, or both lack them."""
        return _is_same(self.patient_id, other.patient_id) and _is_same(self.issuer, other.issuer)

    def may_be(self, other: PatientIdentity) -> bool:
        """Whether this one says less than the other of Patient ID or issuer, and nothing else."""
        if self.patient_id:
            return _is_same(self.patient_id, other.patient_id) and not self.issuer
        return not self.contradicts(other)

    def completed_by(self, other: PatientIdentity) -> PatientIdentity:
        """This one, with what the other says where this one says nothing."""
        pairs = zip(astuple(self), astuple(other), strict=True)
        return PatientIdentity(*(ours or theirs for ours, theirs in pairs))

    def adds_to(self, other: PatientIdentity) -> bool:
        """Whether this one says something of which the other says nothing."""
        return other.completed_by(self) != other


def _is_same(said: str, kept: str) -> bool:
    return said == kept or (len(kept) == MAX_TEXT and said.startswith(kept))


def are_in_conflict(identities: Sequence[PatientIdentity]) -> bool:
    """Whether any two contradict each other."""
    if len(identities) > _MAX_COMPARED:
        return True
    return any(one.contradicts(other) for one, other in combinations(identities, 2))


def said_of_patient(header: Header) -> tuple[bytes | None, ...]:
    """The bytes that say which patient an object is of; cheap to compare with the last one's."""
    return header.raw(_SAID)
