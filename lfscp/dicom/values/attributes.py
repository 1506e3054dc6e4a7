"""Lists the attributes of the index; header reader, schema and matching are made from it.

Rules: every attribute stands here once, with the level it belongs to in the query/retrieve
information model (PS3.4 tables C.6-1 to C.6-5) and the kind of matching its VR allows
(PS3.4 section C.2.2.2). Nothing here reads files, speaks SQL or knows the network.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from pydicom.datadict import dictionary_VM, dictionary_VR, tag_for_keyword


class Level(StrEnum):
    """A query/retrieve level (PS3.4 section C.6), outermost first."""

    PATIENT = "PATIENT"
    STUDY = "STUDY"
    SERIES = "SERIES"
    IMAGE = "IMAGE"


LEVELS: Final = tuple(Level)
# Never several values: a backslash is a character like others (PS3.5 table 6.2-1).
# Texts whose bytes depend on Specific Character Set, and the others.
CHARACTER_VRS: Final = frozenset({"LO", "LT", "PN", "SH", "ST", "UC", "UT"})
ASCII_VRS: Final = frozenset({"AE", "AS", "CS", "DA", "DS", "DT", "IS", "TM", "UI", "UR"})
TEXT_VRS: Final = CHARACTER_VRS | ASCII_VRS
SINGLE_VALUE_VRS: Final = frozenset({"LT", "ST", "UR", "UT"})
LEADING_SPACE_VRS: Final = frozenset({"LT", "ST", "UT"})  # where a leading space counts


@dataclass(frozen=True, slots=True)
class Attribute:
    """One attribute of the index; `items` names the keys kept of a sequence's items."""

    keyword: str
    tag: int
    vr: str
    level: Level
    items: tuple[str, ...] = ()
    several: bool = False  # the value multiplicity allows more than one value

    @property
    def column(self) -> str:
        """The column that holds the value: the keyword in snake case."""
        whole = self.keyword.replace("IDs", "Ids")  # one word, not I and Ds
        spaced = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", whole)
        return spaced.lower()

    @property
    def search_column(self) -> str | None:
        """The column with the normalised person name, for VR PN only."""
        return f"{self.column}_search" if self.vr == "PN" else None

    @property
    def folded_column(self) -> str | None:
        """The column with the name without accents, for VR PN of patients and studies only."""
        has_one = self.vr == "PN" and self.level in (Level.PATIENT, Level.STUDY)
        return f"{self.column}_folded" if has_one else None

    def item_attribute(self, keyword: str) -> Attribute:
        """The attribute of that keyword inside this sequence's items; it has no column."""
        return _attribute(self.level, keyword)


def _attribute(level: Level, keyword: str, *items: str) -> Attribute:
    tag = tag_for_keyword(keyword)
    if tag is None:
        raise KeyError(keyword)
    return Attribute(keyword, tag, dictionary_VR(tag), level, items, dictionary_VM(tag) != "1")


_KEYWORDS: Final[dict[Level, tuple[str, ...]]] = {
    Level.PATIENT: (
        "PatientID",  # unique key
        "PatientName",
        "IssuerOfPatientID",
        "PatientBirthDate",
        "PatientBirthTime",
        "PatientSex",
        "OtherPatientIDs",
        "OtherPatientNames",
        "EthnicGroup",
        "PatientComments",
    ),
    Level.STUDY: (
        "StudyInstanceUID",  # unique key
        "StudyDate",
        "StudyTime",
        "AccessionNumber",
        "StudyID",
        "StudyDescription",
        "ReferringPhysicianName",
        "NameOfPhysiciansReadingStudy",
        "AdmittingDiagnosesDescription",
        "PatientAge",
        "PatientSize",
        "PatientWeight",
        "Occupation",
        "AdditionalPatientHistory",
    ),
    Level.SERIES: (
        "SeriesInstanceUID",  # unique key
        "Modality",
        "SeriesNumber",
        "SeriesDescription",
        "SeriesDate",
        "SeriesTime",
        "Laterality",
        "BodyPartExamined",
        "ProtocolName",
        "PerformingPhysicianName",
        "OperatorsName",
        "InstitutionName",
        "InstitutionalDepartmentName",
        "StationName",
        "Manufacturer",
        "ManufacturerModelName",
        "PerformedProcedureStepID",
        "PerformedProcedureStepStartDate",
        "PerformedProcedureStepStartTime",
    ),
    Level.IMAGE: (
        "SOPInstanceUID",  # unique key
        "SOPClassUID",
        "InstanceNumber",
        "ContentDate",
        "ContentTime",
        "AcquisitionDate",
        "AcquisitionTime",
        "AcquisitionDateTime",
        "AcquisitionNumber",
        "ImageType",
        "NumberOfFrames",
        "Rows",
        "Columns",
        "BitsAllocated",
        "CompletionFlag",
        "VerificationFlag",
        "ContentLabel",
    ),
}

_SEQUENCES: Final = (
    (Level.STUDY, "ProcedureCodeSequence", "CodeValue", "CodingSchemeDesignator", "CodeMeaning"),
    (
        Level.SERIES,
        "RequestAttributesSequence",
        "RequestedProcedureID",
        "ScheduledProcedureStepID",
        "StudyInstanceUID",
        "AccessionNumber",
    ),
    (Level.IMAGE, "ConceptNameCodeSequence", "CodeValue", "CodingSchemeDesignator", "CodeMeaning"),
)

ATTRIBUTES: Final[tuple[Attribute, ...]] = tuple(
    [_attribute(level, keyword) for level in LEVELS for keyword in _KEYWORDS[level]]
    + [_attribute(*sequence) for sequence in _SEQUENCES]
)
# Counted or gathered from lower levels when asked for; no columns of their own.
COMPUTED: Final[tuple[Attribute, ...]] = (
    _attribute(Level.PATIENT, "NumberOfPatientRelatedStudies"),
    _attribute(Level.PATIENT, "NumberOfPatientRelatedSeries"),
    _attribute(Level.PATIENT, "NumberOfPatientRelatedInstances"),
    _attribute(Level.STUDY, "ModalitiesInStudy"),
    _attribute(Level.STUDY, "SOPClassesInStudy"),
    _attribute(Level.STUDY, "NumberOfStudyRelatedSeries"),
    _attribute(Level.STUDY, "NumberOfStudyRelatedInstances"),
    _attribute(Level.SERIES, "NumberOfSeriesRelatedInstances"),
)
BY_TAG: Final = {attribute.tag: attribute for attribute in ATTRIBUTES}
UNIQUE_KEY: Final = {level: _attribute(level, _KEYWORDS[level][0]) for level in LEVELS}
SPECIFIC_CHARACTER_SET: Final = 0x00080005


def at_level(level: Level) -> tuple[Attribute, ...]:
    """The attributes that belong to one level."""
    return tuple(attribute for attribute in ATTRIBUTES if attribute.level is level)
