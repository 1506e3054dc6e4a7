"""Holds what a performed procedure step must have: PS3.4 table F.7.2-1, column by column.

A line is an attribute with its types: at the creation, when it is set, and in the final state
where that differs from the creation. They are those that bind the SCU. Attributes that are
optional in each column, and may be set, have no line.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum
from typing import Final, NamedTuple

from pydicom.datadict import dictionary_VR, tag_for_keyword

NOT_ALLOWED: Final = "-"
STATUS: Final = 0x00400252
SCHEDULED_STEPS: Final = 0x00400270
PERFORMED_SERIES: Final = 0x00400340


class Column(Enum):
    """A column of the table."""

    CREATION = "creation"
    SETTING = "setting"
    FINAL = "final"


class Requirement(NamedTuple):
    """One line of the table.

    Args:
        is_sequence: whether it has items.
        creation, setting, final: 1: there with a value; 2: there; 3: may be there; NOT_ALLOWED.
        items: the lines of a sequence's items.
        if_any: where it is conditional: required when one of these is in the item.
        if_none: likewise, when none of these is.
    """

    tag: int
    is_sequence: bool
    creation: str
    setting: str = NOT_ALLOWED
    final: str = ""
    items: tuple[Requirement, ...] = ()
    if_any: tuple[int, ...] = ()
    if_none: tuple[int, ...] = ()

    def type_in(self, column: Column) -> str:
        """Its type in a column."""
        if column is Column.FINAL:
            return self.final or self.creation
        return self.creation if column is Column.CREATION else self.setting


def _line(
    keyword: str,
    creation: str,
    setting: str = NOT_ALLOWED,
    final: str = "",
    *,
    items: Iterable[Requirement] = (),
    if_any: str = "",
    if_none: str = "",
) -> Requirement:
    tag = _tag(keyword)
    conditions = (tuple(map(_tag, names.split())) for names in (if_any, if_none))
    types = (creation, setting, final)
    return Requirement(tag, dictionary_VR(tag) == "SQ", *types, tuple(items), *conditions)


def _tag(keyword: str) -> int:
    tag = tag_for_keyword(keyword)
    if tag is None:
        raise ValueError(keyword)
    return tag


def _code(*, meaning: str, setting: bool) -> tuple[Requirement, ...]:
    """Tables F.7.2-1a to F.7.2-1f: a code in an item; when it is set, its value may be absent."""
    value, scheme, text = ("3", "1", meaning) if setting else (NOT_ALLOWED,) * 3
    return (
        _line("CodeValue", "1", value, if_none="LongCodeValue URNCodeValue"),
        _line("CodingSchemeDesignator", "1", scheme, if_any="CodeValue LongCodeValue"),
        _line("CodeMeaning", meaning, text),
    )


_FIXED_CODE: Final = _code(meaning="1", setting=False)
_CODE: Final = _code(meaning="1", setting=True)
_CODE_WITHOUT_MEANING: Final = _code(meaning="3", setting=True)
_ISSUER: Final = (
    _line("LocalNamespaceEntityID", "1", if_none="UniversalEntityID"),
    _line("UniversalEntityIDType", "1", if_any="UniversalEntityID"),
)
_FIXED_REFERENCE: Final = (
    _line("ReferencedSOPClassUID", "1"),
    _line("ReferencedSOPInstanceUID", "1"),
)
_REFERENCE: Final = (
    _line("ReferencedSOPClassUID", "1", "1"),
    _line("ReferencedSOPInstanceUID", "1", "1"),
)
_SPECIMEN: Final = (
    _line("SpecimenIdentifier", "1", "1"),
    _line("SpecimenUID", "1", "1"),
)
_IMAGE: Final = (*_REFERENCE, _line("SpecimenDescriptionSequence", "3", "3", items=_SPECIMEN))

_SCHEDULED_STEP: Final = (
    _line("StudyInstanceUID", "1"),
    _line("ReferencedStudySequence", "2", items=_FIXED_REFERENCE),
    _line("AccessionNumber", "2"),
    _line("IssuerOfAccessionNumberSequence", "3", items=_ISSUER),
    _line("OrderPlacerIdentifierSequence", "3", items=_ISSUER),
    _line("OrderFillerIdentifierSequence", "3", items=_ISSUER),
    _line("RequestedProcedureID", "2"),
    _line("RequestedProcedureCodeSequence", "3", items=_FIXED_CODE),
    _line("RequestedProcedureDescription", "2"),
    _line("ScheduledProcedureStepID", "2"),
    _line("ScheduledProcedureStepDescription", "2"),
    _line("ScheduledProtocolCodeSequence", "2", items=_FIXED_CODE),
)
_PERFORMED_SERIES: Final = (
    _line("PerformingPhysicianName", "2", "2"),
    _line("ProtocolName", "1", "1"),
    _line("OperatorsName", "2", "2"),
    _line("SeriesInstanceUID", "1", "1"),
    _line("SeriesDescription", "2", "2"),
    _line("RetrieveAETitle", "2", "2"),
    _line("ReferencedImageSequence", "2", "2", items=_IMAGE),
    _line("ReferencedNonImageCompositeSOPInstanceSequence", "2", "2", items=_REFERENCE),
)
_QUALIFIERS: Final = (_line("UniversalEntityIDType", "1", if_any="UniversalEntityID"),)

TABLE: Final[dict[int, Requirement]] = {
    line.tag: line
    for line in (
        # Performed Procedure Step Relationship
        _line("ScheduledStepAttributesSequence", "1", items=_SCHEDULED_STEP),
        _line("PatientName", "2"),
        _line("PatientID", "2"),
        _line("IssuerOfPatientID", "3"),
        _line("IssuerOfPatientIDQualifiersSequence", "3", items=_QUALIFIERS),
        _line("OtherPatientIDsSequence", "3"),
        _line("PatientBirthDate", "2"),
        _line("PatientSex", "2"),
        _line("ReferencedPatientSequence", "2", items=_FIXED_REFERENCE),
        _line("AdmissionID", "3"),
        _line("IssuerOfAdmissionIDSequence", "3", items=_ISSUER),
        _line("ServiceEpisodeID", "3"),
        _line("IssuerOfServiceEpisodeIDSequence", "3", items=_ISSUER),
        _line("ServiceEpisodeDescription", "3"),
        # Performed Procedure Step Information
        _line("PerformedProcedureStepID", "1"),
        _line("PerformedStationAETitle", "1"),
        _line("PerformedStationName", "2"),
        _line("PerformedLocation", "2"),
        _line("PerformedProcedureStepStartDate", "1"),
        _line("PerformedProcedureStepStartTime", "1"),
        _line("PerformedProcedureStepStatus", "1", "3"),
        _line("PerformedProcedureStepDescription", "2", "3"),
        _line("PerformedProcedureTypeDescription", "2", "3"),
        _line("ProcedureCodeSequence", "2", "3", items=_CODE_WITHOUT_MEANING),
        _line("ReasonForPerformedProcedureCodeSequence", "3", "3", items=_CODE),
        _line("PerformedProcedureStepEndDate", "2", "3", "1"),
        _line("PerformedProcedureStepEndTime", "2", "3", "1"),
        _line("PerformedProcedureStepDiscontinuationReasonCodeSequence", "3", "3", items=_CODE),
        # Image Acquisition Results
        _line("Modality", "1"),
        _line("StudyID", "2"),
        _line("PerformedProtocolCodeSequence", "2", "3", items=_CODE_WITHOUT_MEANING),
        _line("PerformedSeriesSequence", "2", "3", "1", items=_PERFORMED_SERIES),
    )
}
