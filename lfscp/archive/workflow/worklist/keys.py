"""Lists the keys of a worklist query that are matched: the attributes of PS3.4 table K.6-1.

Every attribute of an item may be asked for. A value of one that does not stand here is not
matched, and the answers say so (0xFF01), as an item that lacks it may still be wanted.
"""

from __future__ import annotations

from typing import Final

from pydicom.datadict import tag_for_keyword

# Those that PS3.4 requires of every worklist to match.
REQUIRED_OF_STEP: Final = (
    "ScheduledStationAETitle",
    "ScheduledProcedureStepStartDate",
    "ScheduledProcedureStepStartTime",
    "Modality",
    "ScheduledPerformingPhysicianName",
)
REQUIRED: Final = ("PatientName", "PatientID")

OPTIONAL_OF_STEP: Final = (
    "ScheduledProcedureStepDescription",
    "ScheduledStationName",
    "ScheduledProcedureStepLocation",
    "ScheduledProtocolCodeSequence",
    "PreMedication",
    "ScheduledProcedureStepID",
    "RequestedContrastAgent",
    "ScheduledProcedureStepStatus",
    "CommentsOnTheScheduledProcedureStep",
    "ScheduledProcedureStepEndDate",
    "ScheduledProcedureStepEndTime",
    "ScheduledPerformingPhysicianIdentificationSequence",
)
OPTIONAL: Final = (
    # the requested procedure
    "RequestedProcedureID",
    "RequestedProcedureDescription",
    "RequestedProcedureCodeSequence",
    "StudyInstanceUID",
    "StudyDate",
    "StudyTime",
    "ReferencedStudySequence",
    "RequestedProcedurePriority",
    "PatientTransportArrangements",
    "ReasonForTheRequestedProcedure",
    "RequestedProcedureComments",
    "RequestedProcedureLocation",
    "NamesOfIntendedRecipientsOfResults",
    "ReportingPriority",
    # the imaging service request
    "AccessionNumber",
    "IssuerOfAccessionNumberSequence",
    "RequestingPhysician",
    "ReferringPhysicianName",
    "RequestingService",
    "PlacerOrderNumberImagingServiceRequest",
    "FillerOrderNumberImagingServiceRequest",
    "ImagingServiceRequestComments",
    # the visit
    "AdmissionID",
    "IssuerOfAdmissionIDSequence",
    "InstitutionName",
    "CurrentPatientLocation",
    "ReferencedPatientSequence",
    "AdmittingDiagnosesDescription",
    # the patient
    "IssuerOfPatientID",
    "OtherPatientIDs",
    "OtherPatientIDsSequence",
    "OtherPatientNames",
    "PatientBirthDate",
    "PatientBirthTime",
    "PatientSex",
    "PatientAge",
    "PatientSize",
    "PatientWeight",
    "EthnicGroup",
    "PatientComments",
    "ConfidentialityConstraintOnPatientDataDescription",
    "PatientState",
    "PregnancyStatus",
    "MedicalAlerts",
    "Allergies",
    "SpecialNeeds",
    "AdditionalPatientHistory",
)


def _tags(*keywords: str) -> frozenset[int]:
    tags = list(map(tag_for_keyword, keywords))
    assert None not in tags, keywords  # noqa: S101 - a keyword of the dictionary each
    return frozenset(tag for tag in tags if tag is not None)


MATCHED: Final = _tags(*REQUIRED, *OPTIONAL)
MATCHED_OF_STEP: Final = _tags(*REQUIRED_OF_STEP, *OPTIONAL_OF_STEP)
