"""Performed procedure steps for tests: what a modality sends at the start and at the end."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from pydicom.dataset import Dataset

from tests.support.dataset_values import with_values

MPPS = "1.2.840.10008.3.1.2.3.3"
MPPS_RETRIEVE = "1.2.840.10008.3.1.2.3.4"
STUDY = "1.2.826.0.1.3680043.8.498.1"
CT_IMAGE = "1.2.840.10008.5.1.4.1.1.2"
DOSE_REPORT = "1.2.840.10008.5.1.4.1.1.88.67"


def scheduled(**values: Any) -> Dataset:
    """An item of Scheduled Step Attributes Sequence: step S1 of order A1."""
    item = Dataset()
    item.StudyInstanceUID = STUDY
    item.ReferencedStudySequence = []
    item.AccessionNumber = "A1"
    item.RequestedProcedureID = "R1"
    item.RequestedProcedureDescription = "Head"
    item.ScheduledProcedureStepID = "S1"
    item.ScheduledProcedureStepDescription = "CT of the head"
    item.ScheduledProtocolCodeSequence = []
    return with_values(item, values)


def started(*items: Dataset, **values: Any) -> Dataset:
    """The Attribute List of an N-CREATE that is in order.

    Args:
        items: the scheduled steps; one by default.
        values: others by keyword; None takes the attribute away.
    """
    step = Dataset()
    step.ScheduledStepAttributesSequence = list(items) or [scheduled()]
    step.PatientName = "Doe^Jane"
    step.PatientID = "P1"
    step.PatientBirthDate = "19700102"
    step.PatientSex = "F"
    step.ReferencedPatientSequence = []
    step.PerformedProcedureStepID = "PPS1"
    step.PerformedStationAETitle = "CT01"
    step.PerformedStationName = "Room 1"
    step.PerformedLocation = ""
    step.PerformedProcedureStepStartDate = "20261201"
    step.PerformedProcedureStepStartTime = "100312"
    step.PerformedProcedureStepStatus = "IN PROGRESS"
    step.PerformedProcedureStepDescription = ""
    step.PerformedProcedureTypeDescription = ""
    step.ProcedureCodeSequence = []
    step.PerformedProcedureStepEndDate = ""
    step.PerformedProcedureStepEndTime = ""
    step.PerformedProcedureStepDiscontinuationReasonCodeSequence = []
    step.Modality = "CT"
    step.StudyID = ""
    step.PerformedProtocolCodeSequence = []
    step.PerformedSeriesSequence = []
    return with_values(step, values)


def performed_series(images: Iterable[str] = (), others: Iterable[str] = (), **values: Any) -> Any:
    """An item of Performed Series Sequence.

    Args:
        images, others: the UIDs of the instances that it names.
    """
    item = Dataset()
    item.PerformingPhysicianName = ""
    item.ProtocolName = "Head"
    item.OperatorsName = ""
    item.SeriesInstanceUID = f"{STUDY}.1"
    item.SeriesDescription = ""
    item.RetrieveAETitle = ""
    item.ReferencedImageSequence = [_reference(CT_IMAGE, uid) for uid in images]
    item.ReferencedNonImageCompositeSOPInstanceSequence = [
        _reference(DOSE_REPORT, uid) for uid in others
    ]
    return with_values(item, values)


def ended(*series: Dataset, status: str = "COMPLETED", **values: Any) -> Dataset:
    """The Modification List of the last N-SET."""
    changes = Dataset()
    changes.PerformedProcedureStepStatus = status
    changes.PerformedProcedureStepEndDate = "20261201"
    changes.PerformedProcedureStepEndTime = "101500"
    changes.PerformedSeriesSequence = list(series) or [performed_series([f"{STUDY}.1.1"])]
    return with_values(changes, values)


def changes(**values: Any) -> Dataset:
    """A Modification List."""
    return with_values(Dataset(), values)


def code(value: str = "113014", scheme: str = "DCM", meaning: str = "Study") -> Dataset:
    """An item of a code sequence; what is empty is left out."""
    item = Dataset()
    for keyword, text in (
        ("CodeValue", value),
        ("CodingSchemeDesignator", scheme),
        ("CodeMeaning", meaning),
    ):
        if text:
            setattr(item, keyword, text)
    return item


def _reference(sop_class_uid: str, sop_instance_uid: str) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID = sop_class_uid
    item.ReferencedSOPInstanceUID = sop_instance_uid
    return item
