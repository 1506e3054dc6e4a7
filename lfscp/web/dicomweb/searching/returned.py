"""Lists the attributes that a search returns without being asked (PS3.18 section 10.6.3.3).

Rules: a search that names no study in its path returns those of the study with each match, and so
for the series. Those in OPTIONAL are left out where they have no value.
"""

from __future__ import annotations

from typing import Final

from lfscp.dicom.values.attributes import ATTRIBUTES, COMPUTED, LEVELS, Level

SPECIFIC_CHARACTER_SET: Final = 0x00080005
INSTANCE_AVAILABILITY: Final = 0x00080056
RETRIEVE_URL: Final = 0x00081190
STUDY: Final = (
    *("StudyInstanceUID", "StudyID", "StudyDate", "StudyTime", "AccessionNumber"),
    *("ReferringPhysicianName", "StudyDescription"),
    *("PatientName", "PatientID", "PatientBirthDate", "PatientSex"),
    *("ModalitiesInStudy", "NumberOfStudyRelatedSeries", "NumberOfStudyRelatedInstances"),
)
SERIES: Final = (
    *("SeriesInstanceUID", "Modality", "SeriesNumber", "SeriesDescription"),
    "NumberOfSeriesRelatedInstances",
    "RequestAttributesSequence.ScheduledProcedureStepID",
    "RequestAttributesSequence.RequestedProcedureID",
    *("PerformedProcedureStepStartDate", "PerformedProcedureStepStartTime"),
)
INSTANCE: Final = (
    *("SOPClassUID", "SOPInstanceUID", "InstanceNumber"),
    *("Rows", "Columns", "BitsAllocated", "NumberOfFrames"),
)
OPTIONAL: Final = frozenset(
    {"StudyDescription", "SeriesDescription", "Rows", "Columns", "BitsAllocated", "NumberOfFrames"}
)
UNIQUE: Final = {
    Level.STUDY: ("StudyInstanceUID",),
    Level.SERIES: ("StudyInstanceUID", "SeriesInstanceUID"),
    Level.IMAGE: ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"),
}
# What the index lacks and all objects of a study have alike: PS3.3 sections C.7.1 and C.7.2.
_OF_STUDY: Final = frozenset(
    (
        *("TimezoneOffsetFromUTC", "ReferencedStudySequence", "ReferencedPatientSequence"),
        *("PhysiciansOfRecord", "ConsultingPhysicianName", "IssuerOfAccessionNumberSequence"),
        *("RequestingServiceCodeSequence", "AdmittingDiagnosesCodeSequence", "AdmissionID"),
        *(
            "OtherPatientIDsSequence",
            "IssuerOfPatientIDQualifiersSequence",
            "PatientSpeciesCodeSequence",
        ),
        *("PatientSpeciesDescription", "PatientBreedDescription", "ResponsiblePerson"),
        *("ResponsiblePersonRole", "ResponsibleOrganization", "PatientIdentityRemoved"),
        *("DeidentificationMethod", "PatientSexNeutered", "PregnancyStatus", "SmokingStatus"),
        *("MedicalAlerts", "Allergies", "LastMenstrualDate", "PatientState", "ServiceEpisodeID"),
    )
)
# And those that all objects of a series have alike: sections C.7.3, C.7.4 and C.7.5.
_OF_SERIES: Final = frozenset(
    (
        *("PatientPosition", "FrameOfReferenceUID", "PositionReferenceIndicator"),
        *("InstitutionAddress", "DeviceSerialNumber", "SoftwareVersions", "GantryID", "DeviceUID"),
        *("SpatialResolution", "DateOfLastCalibration", "TimeOfLastCalibration"),
        *("SeriesDescriptionCodeSequence", "ReferencedPerformedProcedureStepSequence"),
        *("PerformedProcedureStepEndDate", "PerformedProcedureStepEndTime"),
        *("PerformedProcedureStepDescription", "PerformedProtocolCodeSequence"),
        *("CommentsOnThePerformedProcedureStep", "AnatomicalOrientationType"),
        *("SmallestPixelValueInSeries", "LargestPixelValueInSeries", "BodyPartThickness"),
        *("OperatorIdentificationSequence", "PerformingPhysicianIdentificationSequence"),
        *("TreatmentSessionUID", "SynchronizationFrameOfReferenceUID"),
    )
)
OF_FIRST_OBJECT: Final = {Level.STUDY: _OF_STUDY, Level.SERIES: _OF_STUDY | _OF_SERIES}


def without_being_asked(level: Level, named: Level | None) -> tuple[str, ...]:
    """The names of what each match has.

    Args:
        level: of the search.
        named: down to which level the path names what is searched in; None for nothing.
    """
    found = list(UNIQUE[level])
    for each, keywords in ((Level.STUDY, STUDY), (Level.SERIES, SERIES), (Level.IMAGE, INSTANCE)):
        is_named = named is not None and LEVELS.index(each) <= LEVELS.index(named)
        if LEVELS.index(each) <= LEVELS.index(level) and not is_named:
            found += keywords
    return tuple(dict.fromkeys(found))


def everything(level: Level) -> tuple[str, ...]:
    """The names of all that the index has of a match (`includefield=all`)."""
    depth = LEVELS.index(level)
    found: list[str] = []
    for each in (*ATTRIBUTES, *COMPUTED):
        if LEVELS.index(each.level) <= depth and not each.keyword.startswith("NumberOfPatient"):
            # Of a sequence, what the index has: its objects are not read.
            found += [f"{each.keyword}.{item}" for item in each.items] or [each.keyword]
    return tuple(found)
