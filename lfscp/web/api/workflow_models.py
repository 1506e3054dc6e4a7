"""The types of the modality workflow's answers: worklist, performed steps, commitments."""

from __future__ import annotations

from typing import Any, Final

from pydantic import BaseModel, Field

from lfscp.archive.workflow.commitment.commitment import State

MILLISECONDS: Final = "Milliseconds since 1970, UTC; 0 while it has not happened."
EXAMPLE: Final = {
    "00080050": {"vr": "SH", "Value": ["A-1001"]},
    "00100010": {"vr": "PN", "Value": [{"Alphabetic": "DOE^JANE"}]},
    "00100020": {"vr": "LO", "Value": ["P-17"]},
    "00100030": {"vr": "DA", "Value": ["19700131"]},
    "00100040": {"vr": "CS", "Value": ["F"]},
    "00321060": {"vr": "LO", "Value": ["CT chest"]},
    "00400100": {
        "vr": "SQ",
        "Value": [
            {
                "00080060": {"vr": "CS", "Value": ["CT"]},
                "00400001": {"vr": "AE", "Value": ["CT1"]},
                "00400002": {"vr": "DA", "Value": ["20260301"]},
                "00400003": {"vr": "TM", "Value": ["0930"]},
            }
        ],
    },
}
SHORT_EXAMPLE: Final = {
    "PatientID": "P-17",
    "PatientName": "DOE^JANE",
    "AccessionNumber": "A-1001",
    "RequestedProcedureDescription": "CT chest",
    "ScheduledProcedureStepSequence": [
        {
            "Modality": "CT",
            "ScheduledStationAETitle": "CT1",
            "ScheduledProcedureStepStartDate": "20260301",
            "ScheduledProcedureStepStartTime": "0930",
        }
    ],
}
Dataset = dict[str, Any]


class AddedOut(BaseModel):
    """The number of a new worklist item."""

    id: int


class WorklistItemOut(BaseModel):
    """A worklist item."""

    id: int
    source: str = Field(
        description="Where it came from: api, page, command, hl7, or folder:NODE for a file."
    )
    is_read_only: bool = Field(description="It is that of a file: change the file instead.")
    created_at: int = Field(description="Milliseconds since 1970, UTC.")
    updated_at: int
    dataset: Dataset = Field(description="DICOM JSON (PS3.18 annex F).", examples=[EXAMPLE])


class ProcedureStepOut(BaseModel):
    """A performed procedure step, as the modality reported it."""

    sop_instance_uid: str
    status: str = Field(description="IN PROGRESS, COMPLETED or DISCONTINUED.")
    calling_ae_title: str
    created_at: int = Field(description="Milliseconds since 1970, UTC.")
    updated_at: int
    study_instance_uid: str
    objects: int = Field(description="How many objects the step names.")
    arrived: int = Field(description="How many of them are in the archive.")
    dataset: Dataset = Field(description="DICOM JSON (PS3.18 annex F).")


class ProcedureStepWithMissingOut(ProcedureStepOut):
    """A performed procedure step with the objects that have not arrived."""

    missing: list[str] = Field(description="SOP Instance UIDs.")


class CommitmentOut(BaseModel):
    """A storage commitment that a peer asked for."""

    id: int
    transaction_uid: str
    calling_ae_title: str = Field(description="The peer that asked.")
    called_ae_title: str
    peer_address: str
    state: State = Field(
        description="received: its objects are to be verified. verified: its report is to be "
        "sent. reported: the peer has the report. failed: nothing could be reported."
    )
    reason: str = Field(description="Why nothing could be reported the last time.")
    instances: int = Field(description="How many objects the peer named.")
    failed: int = Field(description="How many of them the node did not commit to.")
    created_at: int = Field(description=MILLISECONDS)
    verified_at: int = Field(description=MILLISECONDS)
    reported_at: int = Field(description=MILLISECONDS)
    attempts: int
    next_attempt_at: int | None = Field(description="null when none is to come.")


class FailureOut(BaseModel):
    """An object that the node did not commit to."""

    sop_class_uid: str
    sop_instance_uid: str
    failure_reason: int = Field(description="PS3.3 section C.14.1.1.")
    reason: str


class CommitmentWithFailuresOut(CommitmentOut):
    """A storage commitment with the objects that the node did not commit to."""

    failures: list[FailureOut]
