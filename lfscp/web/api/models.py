"""The types of requests and answers: they check requests, and make the OpenAPI document."""

from __future__ import annotations

from typing import Annotated, Any, Generic, Literal, TypeVar

from pydantic import BaseModel, Discriminator, FailFast, Field, Tag

from lfscp.archive.index.browsing.study_pages import MAX_COUNT
from lfscp.config.checks import AETitle
from lfscp.web.actions.peers import AddedPeerIn, Asked, DICOMwebIn, NamedDICOMwebIn, PeerIn

T = TypeVar("T")
Texts = Annotated[list[str], FailFast()]  # the first of many errors is enough
Level = Literal["PATIENT", "STUDY", "SERIES", "IMAGE"]
Model = Annotated[
    Literal["study", "patient", "patient-study"], Field(description="Information model.")
]
Keys = Annotated[
    dict[str, Any],
    Field(description="DICOM keywords with values.", examples=[{"PatientName": "DOE*"}]),
]


def _kind(value: object) -> str:
    if isinstance(value, str):
        return "AE title"
    has_url = "url" in value if isinstance(value, dict) else isinstance(value, DICOMwebIn)
    return "DICOMweb server" if has_url else "peer in full"


# The kinds are told apart first, so that an error speaks of the one that was meant.
PeerRef = Annotated[
    Annotated[str, Tag("AE title")]
    | Annotated[PeerIn, Tag("peer in full")]
    | Annotated[DICOMwebIn, Tag("DICOMweb server")],
    Discriminator(_kind),
    Field(description="The AE title or name of a known peer, or a peer given in full."),
]
AddedPeer = Annotated[
    Annotated[AddedPeerIn, Tag("peer in full")]
    | Annotated[NamedDICOMwebIn, Tag("DICOMweb server")],
    Discriminator(_kind),
]


RetrieveKeys = Annotated[
    dict[str, Any],
    Field(
        description="DICOM keywords with values. One that is no UID may have a list, such as "
        "accession numbers: the peer is asked for each by itself.",
        examples=[{"StudyInstanceUID": "1.2.3"}, {"AccessionNumber": ["A1", "A2"]}],
    ),
]


class EchoIn(Asked):
    """Verify that a peer answers."""

    peer: PeerRef
    retries: int = Field(0, ge=0, le=100)


class FindIn(Asked):
    """Search a peer."""

    peer: PeerRef
    keys: Keys
    level: Level = "STUDY"
    model: Model = "study"
    limit: int | None = Field(None, ge=1, description="Stop after this number of matches.")
    hierarchical: bool | None = Field(
        None,
        description="Ask level by level from the top, for keys that name no single study (or, in "
        "the model patient, no single patient).",
    )
    retries: int = Field(0, ge=0, le=100)


class RetrieveIn(Asked):
    """Retrieve objects from a peer into the archive, or have them sent elsewhere."""

    peer: PeerRef
    keys: RetrieveKeys
    level: Level = "STUDY"
    model: Model = "study"
    method: Literal["auto", "get", "move"] = "auto"
    destination: AETitle | None = Field(None, description="Of a C-MOVE; default: the node's.")
    folder: str | None = Field(None, description="Also save files here, below web.roots.")
    retries: int | None = Field(None, ge=0, le=100)


class SendIn(Asked):
    """Send studies or series of the archive, or files below web.roots, to a peer."""

    peer: PeerRef
    studies: Texts = Field(default_factory=list, description="Study Instance UIDs.")
    series: Texts = Field(default_factory=list, description="Series Instance UIDs.")
    paths: Texts = Field(default_factory=list, description="Files and folders on the node.")
    commit: bool | None = Field(
        None, description="Ask the peer to commit; only then an object counts as delivered."
    )
    retries: int | None = Field(None, ge=0, le=100)


class ExportIn(Asked):
    """Write studies or series of the archive as files into a folder of the node."""

    studies: Texts = Field(default_factory=list, description="Study Instance UIDs.")
    series: Texts = Field(default_factory=list, description="Series Instance UIDs.")
    folder: str = Field(description="A folder below web.roots.")


class CollectIn(Asked):
    """Retrieve matching studies from several peers into one ZIP with a DICOMDIR."""

    peers: list[PeerRef] = Field(min_length=1, max_length=100)
    keys: RetrieveKeys
    model: Model = "study"
    method: Literal["auto", "get", "move"] = "auto"
    retries: int | None = Field(None, ge=0, le=100)


class PeerOut(BaseModel):
    """A known peer: an application entity, or a DICOMweb server."""

    ae_title: str = Field(description="Of a DICOMweb server: its name.")
    host: str
    port: int
    tls: bool
    url: str = Field(description="Of a DICOMweb server, in place of host, port and tls.")
    is_configured: bool = Field(description="Configured peers cannot be changed here.")
    tls_verify: str
    may: list[str] | None = Field(description="What it may ask of this node; null: as unknown.")


class PageOut(BaseModel, Generic[T]):
    """A page of rows; `next` is the value of `after` for the following page."""

    rows: list[T]
    next: str | None


class PatientOut(BaseModel):
    """A patient of the archive."""

    id: int
    patient_id: str
    patient_name: str
    patient_birth_date: str
    patient_sex: str
    number_of_studies: int
    has_conflict: bool = Field(description="Its studies differ in name, birth date or sex.")


class StudyOut(BaseModel):
    """A study of the archive, with its patient."""

    key: int = Field(validation_alias="id", description="Identifies it if several have this UID.")
    study_instance_uid: str
    study_date: str
    study_time: str
    study_description: str
    accession_number: str
    study_id: str
    referring_physician_name: str
    patient_id: str
    patient_name: str
    patient_birth_date: str
    patient_sex: str
    modalities: list[str]
    number_of_series: int
    number_of_instances: int
    received_at: int = Field(description="Milliseconds since 1970, UTC.")
    updated_at: int
    has_conflict: bool = Field(description="Its objects name different patients.")
    patient_has_conflict: bool = Field(description="So do the studies of this Patient ID.")
    shares_uid: bool = Field(description="Another patient has a study with this UID.")
    is_protected: bool = Field(description="It cannot be deleted, and retention keeps it.")
    labels: list[str]
    calling_ae_titles: list[str] = Field(description="Who sent its instances.")


class StudiesOut(PageOut[StudyOut]):
    """A page of studies; `previous` is the value of `before` for the page before it."""

    previous: str | None
    count: int | None = Field(
        description=f"How many match, if asked for; {MAX_COUNT + 1} if more than {MAX_COUNT}."
    )


class LabelsOut(BaseModel):
    """The labels of the archive."""

    labels: list[str]


class SeriesOut(BaseModel):
    """A series of the archive."""

    key: int = Field(validation_alias="id", description="Identifies it if several have this UID.")
    series_instance_uid: str
    series_number: str
    series_description: str
    series_date: str
    modality: str
    body_part_examined: str
    protocol_name: str
    station_name: str
    manufacturer: str
    number_of_instances: int
    middle_instance_uid: str
    shares_uid: bool = Field(description="Another study has a series with this UID.")


class InstanceOut(BaseModel):
    """An instance of the archive."""

    sop_instance_uid: str
    sop_class_uid: str
    instance_number: str
    transfer_syntax_uid: str
    number_of_frames: str
    rows: str
    columns: str
    size: int = Field(description="Bytes of the dataset.")
    received_at: int
    calling_ae_title: str


class StatisticsOut(BaseModel):
    """The size of the archive; `size` in bytes."""

    patients: int
    studies: int
    series: int
    instances: int
    size: int


class DeletedOut(BaseModel):
    """How many instances were deleted."""

    deleted: int


class StoredOut(BaseModel):
    """The outcome of an uploaded file; `notes` say what was unusual about it."""

    outcome: Literal["stored", "identical", "kept", "replaced"]
    study_instance_uid: str
    series_instance_uid: str
    sop_instance_uid: str
    size: int
    notes: list[str] = []


class ElementOut(BaseModel):
    """One element of an object, as readable text."""

    depth: int
    tag: str
    vr: str
    name: str
    value: str
