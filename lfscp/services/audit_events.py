"""Gathers what DICOM peers do for the audit trail: one record for each association and study.

Rules: there is no record for each instance. Stored instances are counted in memory, at about a
microsecond each, and the record is written when the association ends, or sooner when the counts are
large or old. A crash loses these counts, never an instance. A record names one patient. A stored
object names its patient itself; for the others the index is asked when the record is written.
"""

from __future__ import annotations

import time
from collections import Counter, OrderedDict
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

from pydicom.datadict import dictionary_VR, keyword_for_tag
from sqlalchemy.exc import SQLAlchemyError

from lfscp.archive.index.patient_identity import ISSUER_OF_PATIENT_ID, PATIENT_ID, PATIENT_NAME
from lfscp.archive.index.study_patients import (
    StudyPatient,
    patients_of_instances,
    patients_of_study,
)
from lfscp.dicom.reading import identifiers
from lfscp.dicom.values.attributes import SPECIFIC_CHARACTER_SET
from lfscp.errors import OperationError
from lfscp.observe import audit
from lfscp.observe.audit import AuditedPeer, Transfer
from lfscp.observe.audit.message import Patient, cut

if TYPE_CHECKING:
    from lfscp.archive.archive import Archive, Stored, StoredInstance
    from lfscp.config import Settings

MAX_INSTANCES: Final = 1000  # of an association, in one record
MAX_S: Final = 300.0
_PATIENTS: Final = 1024  # remembered
_REMEMBERED_S: Final = 60.0
_MEGABYTE: Final = 1_000_000
_KEY_BYTES: Final = 500  # of a value in the text of a query's keys
_SAYS_WHOSE: Final = (
    *("PatientID", "PatientName", "PatientBirthDate", "AccessionNumber", "StudyInstanceUID"),
    *("SeriesInstanceUID", "SOPInstanceUID", "QueryRetrieveLevel"),
)
_DAY_S: Final = 86_400.0
_PATIENT_TAGS: Final = (PATIENT_ID, ISSUER_OF_PATIENT_ID, PATIENT_NAME, SPECIFIC_CHARACTER_SET)
_StudyAndPatient = tuple[str, tuple[bytes | None, ...]]  # a Study Instance UID, and raw values


def start_trail(settings: Settings) -> None:
    """Begin the audit trail as configured; the data folder exists.

    Raises:
        OSError: the file cannot be opened.
    """
    chosen = settings.audit
    if not chosen.enabled:
        return
    path = chosen.path(settings.data_dir)
    path.open("a").close()  # so that a wrong path is an error at the start
    audit.start(
        path,
        settings.server.ae_title,
        format=chosen.format,
        sync=chosen.durability == "full",
        max_bytes=chosen.max_mb * _MEGABYTE,
        keep=chosen.keep,
        keep_s=chosen.keep_days * _DAY_S,
        same_per_minute=chosen.same_per_minute,
        queries_per_minute=chosen.queries_per_minute,
        stops=chosen.when_failing == "stop",
    )


class Patients:
    """Finds the patients of stored objects.

    It remembers the index's answers for a minute, because modalities send a study piece by piece.

    Args:
        archive: its index knows what objects leave out.
    """

    def __init__(self, archive: Archive) -> None:
        self._archive = archive
        self._known: OrderedDict[_StudyAndPatient, tuple[float, Patient | None]] = OrderedDict()

    def of(self, stored: Stored) -> Patient | None:
        """The patient of a stored object, as `patient_of` finds it."""
        own = _named_by(stored)
        if own.patient_id and own.name:
            return own
        said, now = _study_and_patient(stored), time.monotonic()
        at, found = self._known.get(said, (-_REMEMBERED_S, None))
        if now - at >= _REMEMBERED_S:
            found = patient_of(self._archive, stored)
            self._known[said] = (now, found)
            while len(self._known) > _PATIENTS:
                self._known.popitem(last=False)
        return found


def patient_of(archive: Archive, stored: Stored) -> Patient | None:
    """The patient of a stored object: as it says itself, completed from its study in the index.

    None when neither names one.
    """
    own = _named_by(stored)
    if own.patient_id and own.name:
        return own
    uid = stored.header.sop_instance_uid if stored.header else ""
    study = _of_instances(archive, [uid]).get(uid)
    if study is None:
        return own if own.patient_id or own.name else None
    return Patient(own.patient_id or study.patient_id, own.name or study.name)


def patients_of(archive: Archive, study_uid: str, key: int | None = None) -> list[Patient]:
    """The patients of the studies with a UID in the index; none when it does not answer.

    Args:
        key: of the row of the study, to choose one of several.
    """
    try:
        with archive.index.engine.connect() as connection:
            found = patients_of_study(connection, study_uid, key)
    except (SQLAlchemyError, OperationError):  # the record goes without the patient
        return []
    return list(dict.fromkeys(Patient(each.patient_id, each.name) for each in found))


def _of_instances(archive: Archive, uids: Iterable[str]) -> dict[str, StudyPatient]:
    try:
        with archive.index.engine.connect() as connection:
            return patients_of_instances(connection, uids)
    except (SQLAlchemyError, OperationError):  # as above
        return {}


def _named_by(stored: Stored) -> Patient:
    """The patient that an object names itself."""
    header = stored.header
    return Patient(*header.texts((PATIENT_ID, PATIENT_NAME))) if header else Patient("")


def _study_and_patient(stored: Stored) -> _StudyAndPatient:
    """A value that all objects of one study and patient share; cheap."""
    header = stored.header
    return stored.study_uid, () if header is None else header.raw(_PATIENT_TAGS)


class ReceivedObjects:
    """The objects of one association that are not recorded yet; for the thread that serves it.

    Args:
        peer: the sender.
        patients: asked when a record is written.
    """

    __slots__ = ("_count", "_patients", "_peer", "_refused", "_since", "_stored")

    def __init__(self, peer: AuditedPeer, patients: Patients) -> None:
        self._peer = peer
        self._patients = patients
        self._stored: dict[_StudyAndPatient, tuple[Stored, Transfer]] = {}  # one object, and counts
        self._refused: Counter[str] = Counter()
        self._count = 0
        self._since = time.monotonic()

    def stored(self, stored: Stored, sop_class_uid: str) -> None:
        """Note one object that was acknowledged."""
        said = _study_and_patient(stored)
        noted = self._stored.get(said)
        if noted is None:
            noted = self._stored[said] = (stored, Transfer({}))
        noted[1].count(sop_class_uid, stored.size)
        self._count += 1
        if self._count >= MAX_INSTANCES or time.monotonic() - self._since > MAX_S:
            self.write()

    def refused(self, status: str) -> None:
        """Note one object that was not stored."""
        self._refused[status] += 1

    def write(self) -> None:
        """Record what was noted, and begin again."""
        records: dict[tuple[str, Patient | None], Transfer] = {}
        for stored, transfer in self._stored.values():
            whose = (stored.study_uid, self._patients.of(stored))
            records.setdefault(whose, Transfer({})).add(transfer)
        for (study_uid, patient), transfer in records.items():
            audit.instances_received(self._peer, study_uid, transfer, patient)
        if self._refused:
            audit.instances_refused(self._peer, self._refused)
        self._stored = {}
        self._refused.clear()
        self._count = 0
        self._since = time.monotonic()


class SentObjects:
    """The objects that a retrieve has sent of each study and that are not recorded yet."""

    def __init__(self) -> None:
        self._begin()

    def _begin(self) -> None:
        self._studies: dict[str, tuple[list[StoredInstance], list[StoredInstance]]] = {}
        self._count = 0
        self._since = time.monotonic()

    def count(self, instance: StoredInstance, *, failed: bool) -> None:
        """Note one sub-operation that has ended."""
        sent, not_sent = self._studies.setdefault(instance.study_uid, ([], []))
        (not_sent if failed else sent).append(instance)
        self._count += 1

    @property
    def is_due(self) -> bool:
        """Whether the counts are so large or old that it is time to write them."""
        return self._count >= MAX_INSTANCES or time.monotonic() - self._since > MAX_S

    def __bool__(self) -> bool:
        return bool(self._studies)

    def write(self, requestor: AuditedPeer, destination: AuditedPeer, archive: Archive) -> None:
        """Write a record for each patient and study, and begin again."""
        studies = self._studies
        self._begin()
        for study_uid, (sent, not_sent) in studies.items():
            for patient, transfer in _by_patient(archive, study_uid, sent, not_sent).items():
                audit.instances_sent(requestor, destination, study_uid, transfer, patient)


def _by_patient(
    archive: Archive,
    study_uid: str,
    sent: Sequence[StoredInstance],
    not_sent: Sequence[StoredInstance],
) -> dict[Patient | None, Transfer]:
    """The objects sent by patient; an object without a known patient counts for all of them."""
    known: Sequence[Patient | None] = patients_of(archive, study_uid) or (None,)
    uids = [each.sop_instance_uid for each in (*sent, *not_sent)] if len(known) > 1 else []
    whose = {
        uid: (Patient(study.patient_id, study.name),)
        for uid, study in _of_instances(archive, uids).items()
    }
    counts: dict[Patient | None, Transfer] = {}
    for instance in sent:
        for patient in whose.get(instance.sop_instance_uid, known):
            transfer = counts.setdefault(patient, Transfer({}))
            transfer.count(instance.sop_class_uid, instance.size)
    for instance in not_sent:
        for patient in whose.get(instance.sop_instance_uid, known):
            counts.setdefault(patient, Transfer({})).failed += 1
    return counts


def peer_of(association: Any) -> AuditedPeer:
    """The requestor of an association."""
    requestor = association.requestor
    return AuditedPeer(str(requestor.ae_title).strip(), requestor.address or "")


def keys_of(identifier: bytes, transfer_syntax_uid: str) -> str:
    """The keys of a query that have a value, as text: "PatientID=47 StudyDate=2026-".

    Long values are cut. The keys that name a patient or study come first, so that no other key
    pushes them out.
    """
    try:
        received = identifiers.read_identifier(identifier, transfer_syntax_uid)
        charset = identifiers.character_set(received)
        pairs = []
        for tag in identifiers.tags(received):
            if identifiers.is_empty(received, tag):
                continue
            keyword, vr = _keyword_and_vr(tag)
            value = "" if vr == "SQ" else identifiers.text(received, tag, vr, charset)
            if value:
                name = keyword or f"({tag >> 16:04X},{tag & 0xFFFF:04X})"
                pairs.append((name not in _SAYS_WHOSE, f"{name}={cut(value, _KEY_BYTES)}"))
    except Exception:  # noqa: BLE001 - odd bytes; the record holds them as they came
        return ""
    return " ".join(text for _, text in sorted(pairs, key=lambda pair: pair[0]))


@lru_cache(maxsize=1024)
def _keyword_and_vr(tag: int) -> tuple[str, str]:
    keyword = keyword_for_tag(tag)
    return keyword, dictionary_VR(tag) if keyword else "UN"
