"""What DICOM peers do, gathered for the audit trail: a record per association and study.

Rules: nothing is written per instance. What an association stores is counted in memory, a fraction
of a microsecond each, and written when it ends, or sooner when it has become much or old. A crash
loses these counts, never an instance. Patients are looked up when a record is written.
"""

from __future__ import annotations

import time
from collections import Counter, OrderedDict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from pydicom.datadict import dictionary_VR, keyword_for_tag
from sqlalchemy import select
from sqlalchemy.exc import SQLAlchemyError

from lfscp.archive import identifiers
from lfscp.archive.errors import ArchiveError
from lfscp.archive.schema import study
from lfscp.observe import audit
from lfscp.observe.audit import Peer, Transfer
from lfscp.observe.audit_message import Patient

if TYPE_CHECKING:
    from lfscp.archive.archive import Archive, StoredInstance
    from lfscp.config import Settings
    from lfscp.config.audit import Audit

MOST_INSTANCES: Final = 1000  # of an association, in one record
LONGEST_S: Final = 300.0
_PATIENTS: Final = 1024  # remembered
_REMEMBERED_S: Final = 60.0
_MEGABYTE: Final = 1_000_000


def start_trail(settings: Settings) -> None:
    """Begin the audit trail as configured; the data folder exists.

    Raises:
        OSError: the file cannot be opened.
    """
    if settings.audit.enabled:
        _start(settings.audit, settings.audit.path(settings.data_dir), settings.server.ae_title)


def _start(chosen: Audit, path: Path, ae_title: str) -> None:
    path.open("a").close()  # a wrong path is said at the start
    audit.start(
        path,
        ae_title,
        format=chosen.format,
        sync=chosen.durability == "full",
        max_bytes=chosen.max_mb * _MEGABYTE,
        keep=chosen.keep,
        stops=chosen.when_failing == "stop",
    )


class Patients:
    """Whose a study is; remembered for a minute, since modalities send a study piece by piece.

    Args:
        archive: its index is asked.
    """

    def __init__(self, archive: Archive) -> None:
        self._archive = archive
        self._known: OrderedDict[str, tuple[float, Patient | None]] = OrderedDict()

    def of(self, study_uid: str) -> Patient | None:
        """The patient of a study; None when there is no such study, or no index."""
        now = time.monotonic()
        at, found = self._known.get(study_uid, (-_REMEMBERED_S, None))
        if now - at >= _REMEMBERED_S:
            found = patient_of(self._archive, study_uid)
            self._known[study_uid] = (now, found)
            while len(self._known) > _PATIENTS:
                self._known.popitem(last=False)
        return found


def patient_of(archive: Archive, study_uid: str) -> Patient | None:
    """The patient of a study as the index has it; None when there is none."""
    wanted = (
        select(study.c.patient_id, study.c.patient_name)
        .where(study.c.study_instance_uid == study_uid)
        .order_by(study.c.updated_at.desc())  # where patients share the UID: whose it was last
    )
    try:
        with archive.index.engine.connect() as connection:
            row = connection.execute(wanted).first()
    except (SQLAlchemyError, ArchiveError):  # the record is written without the patient
        return None
    return None if row is None else Patient(row[0], row[1])


class Received:
    """What one association has stored and not been recorded yet; used by the thread that serves it.

    Args:
        peer: who stores.
        patients: asked when a record is written.
    """

    __slots__ = ("_count", "_patients", "_peer", "_refused", "_since", "_studies")

    def __init__(self, peer: Peer, patients: Patients) -> None:
        self._peer = peer
        self._patients = patients
        self._studies: dict[str, Transfer] = {}
        self._refused: Counter[str] = Counter()
        self._count = 0
        self._since = time.monotonic()

    def stored(self, study_uid: str, sop_class_uid: str, size: int) -> None:
        """Note one object that was acknowledged."""
        transfer = self._studies.get(study_uid)
        if transfer is None:
            transfer = self._studies[study_uid] = Transfer({})
        instances = transfer.instances
        instances[sop_class_uid] = instances.get(sop_class_uid, 0) + 1
        transfer.size += size
        self._count += 1
        if self._count >= MOST_INSTANCES or time.monotonic() - self._since > LONGEST_S:
            self.write()

    def refused(self, status: str) -> None:
        """Note one object that was not stored."""
        self._refused[status] += 1

    def write(self) -> None:
        """Record what was noted, and begin anew."""
        for study_uid, transfer in self._studies.items():
            audit.instances_received(self._peer, study_uid, transfer, self._patients.of(study_uid))
        if self._refused:
            audit.instances_refused(self._peer, self._refused)
        self._studies = {}
        self._refused.clear()
        self._count = 0
        self._since = time.monotonic()


class Sent:
    """What a retrieve has sent of each study."""

    def __init__(self) -> None:
        self._studies: dict[str, Transfer] = {}

    def count(self, instance: StoredInstance, *, failed: bool) -> None:
        """Note one sub-operation that has ended."""
        transfer = self._studies.get(instance.study_uid)
        if transfer is None:
            transfer = self._studies[instance.study_uid] = Transfer({})
        if failed:
            transfer.failed += 1
            return
        uid = instance.sop_class_uid
        transfer.instances[uid] = transfer.instances.get(uid, 0) + 1
        transfer.size += instance.size

    def __bool__(self) -> bool:
        return bool(self._studies)

    def write(self, requestor: Peer, destination: Peer, patients: Patients) -> None:
        """Record it."""
        for study_uid, transfer in self._studies.items():
            audit.instances_sent(
                requestor, destination, study_uid, transfer, patients.of(study_uid)
            )


def peer_of(association: Any) -> Peer:
    """The requestor of an association."""
    requestor = association.requestor
    return Peer(str(requestor.ae_title).strip(), requestor.address or "")


def keys_of(identifier: bytes, transfer_syntax_uid: str) -> str:
    """The keys of a query that have a value, as text: "PatientID=47 StudyDate=2026-"."""
    try:
        received = identifiers.read_identifier(identifier, transfer_syntax_uid)
        charset = identifiers.character_set(received)
        pairs = []
        for tag in identifiers.tags(received):
            keyword = keyword_for_tag(tag)
            vr = dictionary_VR(tag) if keyword else "UN"
            value = "" if vr == "SQ" else identifiers.text(received, tag, vr, charset)
            if value:
                pairs.append(f"{keyword or f'({tag >> 16:04X},{tag & 0xFFFF:04X})'}={value}")
    except Exception:  # noqa: BLE001 - odd bytes; the record holds them as they came
        return ""
    return " ".join(pairs)
