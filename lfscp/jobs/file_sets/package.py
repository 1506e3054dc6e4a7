"""Packs studies, series or instances into a ZIP with a DICOMDIR, while the ZIP is read.

Source: PS3.10, PS3.3 annex F.

The DICOMDIR comes first, made from the headers. Then the objects go from the archive into the ZIP
piece by piece; none is copied to disk. To read many headers takes long. So only one directory is
made at a time, of a limited number of objects. Its patients are those of the studies in the index,
whatever single objects say.
"""

from __future__ import annotations

import itertools
import threading
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from types import SimpleNamespace
from typing import IO, TYPE_CHECKING, Final

from pydicom.dataset import Dataset
from sqlalchemy.exc import SQLAlchemyError

from lfscp.archive.index.study_patients import StudyPatient, patients_of_instances
from lfscp.archive.store.object_store import StoredFile
from lfscp.archive.store.received_objects import StoredInstance, is_as_selected
from lfscp.dicom.values.attributes import Level
from lfscp.dicom.values.charset import UTF_8, encoder
from lfscp.dicom.values.person_names import search_form
from lfscp.jobs.file_sets.directory import Directory, Recorder
from lfscp.jobs.file_sets.record_head import read_record_head
from lfscp.jobs.file_sets.zipped import zipped

if TYPE_CHECKING:
    from lfscp.archive.archive import Archive

_PIECE_BYTES: Final = 1 << 20
MAX_PACKED: Final = 8_000  # objects of one ZIP
_MAKING: Final = threading.Lock()  # held while a directory is made
_RECORDER: Final = Recorder()
# Values that a DICOMDIR needs (type 1, PS3.3 section F.5) and an object may lack; invented as other
# tools do.
_UNKNOWN: Final = "UNKNOWN"
_INVENTED: Final = {
    "StudyDate": "19000101",
    "StudyTime": "000000",
    "StudyID": "1",
    "StudyDescription": "",
    "AccessionNumber": "",
    "Modality": "OT",
    "SeriesNumber": 1,
    "InstanceNumber": 1,
}


class PackageError(Exception):
    """These studies cannot become a ZIP.

    Args:
        reason: one sentence for the user.
        passing: whether trying again later can help.
    """

    def __init__(self, reason: str, *, passing: bool = False) -> None:
        super().__init__(reason)
        self.passing = passing


def package(
    archive: Archive,
    uids: Sequence[str],
    level: Level = Level.STUDY,
    look: Callable[[], None] = lambda: None,
) -> Iterator[bytes]:
    """The ZIP of these studies, piece by piece; the DICOMDIR is made before this returns.

    Args:
        uids: of studies, or of what `level` says. What is gone is left out.
        look: called for each object of the DICOMDIR; what it raises ends the making.
    Raises:
        ArchiveError: the index cannot be read.
        PackageError: they have too many objects, or another ZIP is being made.
    """
    instances = archive.select(level, {level: list(dict.fromkeys(uids))})
    if len(instances) > MAX_PACKED:
        raise PackageError(
            f"a ZIP holds at most {MAX_PACKED:,} objects, and these are "
            f"{len(instances):,}; select fewer, or export them into a folder"
        )
    if not _MAKING.acquire(blocking=False):
        raise PackageError("another ZIP is being made; try again later", passing=True)
    try:
        whose = _whose(archive, instances)
        dicomdir, names = _directory(instances, whose, look)
    finally:
        _MAKING.release()
    first = [("DICOMDIR", [dicomdir])] if dicomdir else []
    files = (
        (names[each.sop_instance_uid], _read(archive, each, whose.get(each.sop_instance_uid)))
        for each in instances
    )
    return zipped(itertools.chain(first, files))


def _read(
    archive: Archive, instance: StoredInstance, whose: StudyPatient | None
) -> Iterator[bytes] | None:
    """The bytes of an object; None if it was deleted in the meantime, or is filed elsewhere.

    Raises:
        OSError: it cannot be read.
    """
    file: StoredFile | None = instance.path
    if not is_as_selected(instance):
        file = _replaced(archive, instance, whose)
    with suppress(FileNotFoundError):
        return _pieces_of(file.open("rb")) if file is not None else None
    return None


def _replaced(
    archive: Archive, instance: StoredInstance, whose: StudyPatient | None
) -> StoredFile | None:
    """The file that an object has now, if the directory is still right about it."""
    uid = instance.sop_instance_uid
    row = archive.index.lookups.instance_row(uid)
    if row is None or _whose(archive, [instance]).get(uid) != whose:
        return None
    place = row["study_instance_uid"], row["series_instance_uid"]
    if place != (instance.study_uid, instance.series_uid):
        return None
    return archive.files.file_of(SimpleNamespace(**row))


def _pieces_of(stream: IO[bytes]) -> Iterator[bytes]:
    with stream:
        while piece := stream.read(_PIECE_BYTES):
            yield piece


def _whose(archive: Archive, instances: Iterable[StoredInstance]) -> dict[str, StudyPatient]:
    """The patient of each instance's study, by SOP Instance UID."""
    try:
        with archive.index.engine.connect() as connection:
            return patients_of_instances(connection, [each.sop_instance_uid for each in instances])
    except SQLAlchemyError as error:
        raise archive.index.cannot("read the index", error) from None


class _Patients:
    """The PATIENT records of a directory: one for each patient of the index and each name.

    A study without a name joins another record of its patient. A patient without a Patient ID gets
    one that no other has.
    """

    def __init__(self, whose: Iterable[StudyPatient]) -> None:
        self._records: dict[tuple[int, str], StudyPatient] = {}
        for study in sorted(set(whose)):
            self._records.setdefault(self._key(study), study)
        real = {study.patient_id for study in self._records.values()}
        invented = (f"{_UNKNOWN}{number}" for number in itertools.count(1))
        self._invented = filter(lambda name: name not in real, invented)
        self._numbers: dict[tuple[int, str], str] = {}
        self._named: dict[str, StudyPatient] = {}

    @staticmethod
    def _key(study: StudyPatient) -> tuple[int, str]:
        return study.patient_key, search_form(study.name)

    def number(self, study: StudyPatient) -> str:
        """The number that stands for the patient while the directory is made."""
        key = self._key(study)
        if not key[1]:
            key = next((each for each in self._records if each[0] == key[0] and each[1]), key)
        if key not in self._numbers:
            number = self._numbers[key] = str(len(self._numbers) + 1)
            found = self._records[key]
            patient_id = found.patient_id or next(self._invented)
            name = found.name or _UNKNOWN
            self._named[number] = found._replace(patient_id=patient_id, name=name)
        return self._numbers[key]

    def complete(self, record: Dataset) -> None:
        """Put the patient in place of the number."""
        patient = self._named[str(record.PatientID)]
        text = "\\".join((patient.patient_id, patient.issuer, patient.name))
        if not text.isascii():
            record.SpecificCharacterSet = _character_set(record, text)
        record.PatientID, record.PatientName = patient.patient_id, patient.name
        if patient.issuer:
            record.IssuerOfPatientID = patient.issuer


def _character_set(record: Dataset, text: str) -> list[str]:
    """The character set of a record if it can encode the text, else UTF-8."""
    own = record.get("SpecificCharacterSet") or ""
    charset, encode = encoder(own if isinstance(own, str) else "\\".join(own))
    try:
        encode(text)
    except UnicodeEncodeError:
        charset = UTF_8
    return charset.split("\\")


def _directory(
    instances: Iterable[StoredInstance],
    whose: Mapping[str, StudyPatient],
    look: Callable[[], None],
) -> tuple[bytes, dict[str, str]]:
    """A DICOMDIR, and the name of each object in the ZIP by its SOP Instance UID.

    An object of which pydicom cannot make a record goes unlisted into OTHER.
    """
    names: dict[str, str] = {}
    directory, patients = Directory(), _Patients(whose.values())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about odd values
        for number, instance in enumerate(instances, 1):
            look()
            uid = instance.sop_instance_uid
            try:
                names[uid] = _listed(directory, instance, patients, whose[uid])
            except Exception:  # noqa: BLE001 - pydicom raises what it likes on odd objects
                names[uid] = f"OTHER/{number:08d}"
        return directory.encoded() if directory else b"", names


def _listed(
    directory: Directory, instance: StoredInstance, patients: _Patients, whose: StudyPatient
) -> str:
    """The name of an object that is listed now.

    pydicom knows a patient by a Patient ID, which several may share or lack. So each has a number,
    and its record gets the values of the index.
    """
    head = _head(instance)
    head.PatientID = patients.number(whose)
    records = _RECORDER.records_of(head)
    if len(records) == 1:  # of no patient, such as a hanging protocol
        return directory.add(records, [instance.sop_instance_uid])
    keys = [head.PatientID, head.StudyInstanceUID, head.SeriesInstanceUID]
    patients.complete(records[0])
    return directory.add(records, [*keys, instance.sop_instance_uid])


def _head(instance: StoredInstance) -> Dataset:
    """The head of an object, completed with what its record needs."""
    head = read_record_head(instance)
    for keyword, value in _INVENTED.items():
        if not head.get(keyword) and head.get(keyword) != 0:
            setattr(head, keyword, value)
    return head
