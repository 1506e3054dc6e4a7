"""The settings of the modality workflow: worklist, storage commitment."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator

from lfscp.ae_title import validate_ae_title
from lfscp.config.access import Network
from lfscp.config.checks import Amount, ListenPort, ListOf, Seconds, check_folder, check_host
from lfscp.config.declaration import Section, setting


def check_folder_or_none(text: str) -> str:
    """A folder as an absolute path, or nothing."""
    return str(check_folder(Path(text))) if text else ""


def check_station(entry: str) -> str:
    """A modality, or * for all others, and the AE titles of the stations that perform it."""
    modality, _, titles = entry.partition("=")
    try:
        stations = [validate_ae_title(title.strip()) for title in titles.split(",")]
    except ValueError:
        stations = []
    if not _is_term(modality) or not stations:
        raise ValueError('MODALITY=AE_TITLE, as "CT=CT01", "MR=MR01,MR02", or "*=ROOM1"')
    return f"{modality}={','.join(stations)}"


def check_modality(entry: str) -> str:
    """What a sender calls a modality, and the term of DICOM for it."""
    said, _, modality = entry.rpartition("=")
    if not said.strip() or not _is_term(modality) or modality == "*":
        raise ValueError('TEXT=MODALITY, as "RAD=DX"')
    return f"{said.strip()}={modality}"


def _is_term(modality: str) -> bool:
    is_term = modality.isascii() and modality.isalnum() and modality.isupper()
    return modality == "*" or (is_term and len(modality) <= 16)


Station = Annotated[str, AfterValidator(check_station)]
ModalityTerm = Annotated[str, AfterValidator(check_modality)]


class Worklist(Section):
    """The modality worklist (PS3.4 annex K): what devices are to examine."""

    folder: Annotated[str, AfterValidator(check_folder_or_none)] = setting(
        "",
        "Folder of worklist files (.wl), as other worklist servers use it. The node sees files "
        "that come, change and go. Empty means none.",
    )
    keep_days: Amount = setting(
        30.0,
        "How long an item is kept after the day of its last step, in days. 0 keeps it for ever. "
        "Items of files stay as long as their files.",
    )
    hl7_host: Annotated[str, AfterValidator(check_host)] = setting(
        "127.0.0.1", "Address to listen on for HL7 messages. 0.0.0.0 is every IPv4 address."
    )
    hl7_port: ListenPort = setting(
        0, "TCP port for HL7 messages (MLLP), which fill the worklist. 0 means that there is none."
    )
    hl7_addresses: ListOf[Network] = setting(
        (), "Addresses or networks that may send HL7 messages. Empty means all."
    )
    hl7_character_set: Literal[
        "UNICODE UTF-8",
        "8859/1",
        "8859/2",
        "8859/5",
        "8859/7",
        "8859/9",
        "8859/15",
        "GB 18030-2000",
        "KS X 1001",
        "BIG-5",
    ] = setting(
        "UNICODE UTF-8",
        "Character set of HL7 messages that name none in MSH-18. With UNICODE UTF-8, a message "
        "that is not UTF-8 is read as 8859/1.",
    )
    hl7_stations: ListOf[Station] = setting(
        (),
        'AE titles of the devices for orders that name none, by modality: "CT=CT01", '
        '"MR=MR01,MR02" (any of these), "*=ROOM1" (all other modalities).',
    )
    hl7_modalities: ListOf[ModalityTerm] = setting(
        (), 'The modalities that orders mean by words of their own (OBR-24): "RAD=DX".'
    )


class Commitment(Section):
    """Storage commitment (PS3.4 annex J): the node promises to keep what it was sent."""

    verify: Literal["digest", "size", "index"] = setting(
        "digest",
        "What the node looks at before it commits to an object. digest: it reads the object and "
        "compares the digest. size: the object is there with its size. index: it is in the index.",
        live=True,
    )
    keep_days: Amount = setting(
        0.0,
        "How long retention leaves a study alone after the node has committed to one of its "
        "objects, in days. 0 means that it does not wait.",
    )
    retry_hours: Seconds = setting(
        24.0,
        "How long the node tries to send a report to a peer that is away, in hours.",
    )
    wait_hours: Seconds = setting(
        24.0,
        "How long a job that sends with commitment waits for the report of the receiver, in hours.",
    )
