"""What the API takes and gives, as types: from them come the checks and the OpenAPI document."""

from __future__ import annotations

from typing import Annotated, Any, Generic, Literal, TypeVar

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    FailFast,
    Field,
    StringConstraints,
    Tag,
)

from lfscp.config.checks import validate_ae_title
from lfscp.web.context import Web
from lfscp.web.problems import Problem

T = TypeVar("T")
AETitle = Annotated[str, BeforeValidator(validate_ae_title)]
Host = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=255)]
Texts = Annotated[list[str], FailFast()]  # of many faults the first is enough
Level = Literal["PATIENT", "STUDY", "SERIES", "IMAGE"]
Model = Annotated[
    Literal["study", "patient", "patient-study"], Field(description="Information model.")
]
Keys = Annotated[
    dict[str, Any],
    Field(description="DICOM keyword to value", examples=[{"PatientName": "DOE*"}]),
]


class Asked(BaseModel):
    """What comes from outside: an unknown field is an error."""

    model_config = ConfigDict(extra="forbid")


class PeerIn(Asked):
    """A remote application entity, given with the request."""

    ae_title: AETitle = Field(description="The AE title to call.")
    host: Host
    port: int = Field(ge=1, le=65535)
    tls: bool = False
    calling_ae_title: AETitle | None = Field(None, description="Ours; the node's own when absent.")


def _is_title(value: object) -> str:
    return "AE title" if isinstance(value, str) else "peer in full"


# Told apart first, so that only what is wrong with the one that was meant is said.
PeerRef = Annotated[
    Annotated[str, Tag("AE title")] | Annotated[PeerIn, Tag("peer in full")],
    Discriminator(_is_title),
    Field(description="The AE title of a known peer, or a peer given in full."),
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
    limit: int | None = Field(None, ge=1, description="Stop after so many matches.")
    retries: int = Field(0, ge=0, le=100)


class RetrieveIn(Asked):
    """Bring objects from a peer into the archive, or have them sent elsewhere."""

    peer: PeerRef
    keys: Keys
    level: Level = "STUDY"
    model: Model = "study"
    method: Literal["auto", "get", "move"] = "auto"
    destination: AETitle | None = Field(None, description="AE title of a move; ours when absent.")
    folder: str | None = Field(None, description="Files go here as well, below web.roots.")
    retries: int | None = Field(None, ge=0, le=100)


class SendIn(Asked):
    """Send studies of the archive, or files below web.roots, to a peer."""

    peer: PeerRef
    studies: Texts = Field(default_factory=list, description="Study Instance UIDs.")
    paths: Texts = Field(default_factory=list, description="Files and folders on the node.")
    retries: int | None = Field(None, ge=0, le=100)


class CollectIn(Asked):
    """Bring what matches from several peers together in one ZIP with a DICOMDIR."""

    peers: list[PeerRef] = Field(min_length=1, max_length=100)
    keys: Keys
    model: Model = "study"
    method: Literal["auto", "get", "move"] = "auto"
    retries: int | None = Field(None, ge=0, le=100)


class PeerOut(BaseModel):
    """A known peer."""

    ae_title: str
    host: str
    port: int
    tls: bool
    is_configured: bool = Field(description="Configured ones cannot be changed here.")


class PageOut(BaseModel, Generic[T]):
    """Some of the rows; `next` goes into `after` for the following ones."""

    rows: list[T]
    next: str | None


class PatientOut(BaseModel):
    """A patient of the archive."""

    model_config = ConfigDict(extra="ignore")

    id: int
    patient_id: str
    patient_name: str
    patient_birth_date: str
    patient_sex: str
    number_of_studies: int
    has_conflict: bool = Field(description="Its studies differ in name, birth date or sex.")


class StudyOut(BaseModel):
    """A study of the archive, with its patient."""

    model_config = ConfigDict(extra="ignore")

    key: int = Field(validation_alias="id", description="Names it where others have its UID.")
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
    has_conflict: bool = Field(description="Its objects differ in the patient's name, say.")
    patient_has_conflict: bool = Field(description="So do the studies of its Patient ID.")
    shares_uid: bool = Field(description="Another patient has a study with its UID.")
    is_protected: bool = Field(description="It never goes by itself when space is made.")


class SeriesOut(BaseModel):
    """A series of the archive."""

    model_config = ConfigDict(extra="ignore")

    key: int = Field(validation_alias="id", description="Names it where others have its UID.")
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
    shares_uid: bool = Field(description="Another study has a series with its UID.")


class InstanceOut(BaseModel):
    """An instance of the archive."""

    model_config = ConfigDict(extra="ignore")

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
    """How much is in the archive; `size` in bytes."""

    patients: int
    studies: int
    series: int
    instances: int
    size: int


class DeletedOut(BaseModel):
    """How many instances are gone."""

    deleted: int


class StoredOut(BaseModel):
    """What became of an uploaded file; `notes` say what was odd about it."""

    outcome: Literal["stored", "identical", "kept", "replaced"]
    study_instance_uid: str
    series_instance_uid: str
    sop_instance_uid: str
    size: int
    notes: list[str] = []


class ElementOut(BaseModel):
    """One element of an object, for people to read."""

    depth: int
    tag: str
    vr: str
    name: str
    value: str


def peer_of(web: Web, asked: str | PeerIn, pointer: str = "/peer") -> Any:
    """The peer that a request names, as the client side takes it.

    Args:
        pointer: to where the request names it.
    Raises:
        Problem: no such peer is known, or a field is not what it should be.
    """
    from lfscp.scu.peer import Peer

    server = web.settings.server
    if isinstance(asked, str):
        title = asked.strip()
        configured = web.peers.configured.get(title)
        if configured is not None:
            return Peer.configured(title, configured, server)
        known = web.peers.get(title)
        if known is None:
            titles = ", ".join(peer.ae_title for peer in web.peers.all()) or "none"
            detail = f"no peer {asked!r} is known; known are {titles}"
            errors = [{"pointer": pointer, "detail": detail}]
            raise Problem(422, f"{pointer[1:]}: {detail}", errors=errors)
        asked = PeerIn(
            ae_title=title,
            host=known.host,
            port=known.port,
            tls=known.tls,
            calling_ae_title=None,
        )
    return Peer(
        asked.ae_title,
        asked.host,
        asked.port,
        calling_ae_title=asked.calling_ae_title or server.ae_title,
        tls=asked.tls,
        connect_timeout_s=min(10.0, server.acse_timeout_s),
        acse_timeout_s=server.acse_timeout_s,
        dimse_timeout_s=max(60.0, server.dimse_timeout_s),
    )
