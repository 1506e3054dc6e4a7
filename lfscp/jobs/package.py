"""Studies of the archive as one ZIP with a DICOMDIR, made while it is read (PS3.10, PS3.3 annex F).

The DICOMDIR is made first, from the objects' headers only, in a temporary folder; then objects go
from the archive into the ZIP piece by piece. No object is copied to disk. Memory stays bounded: a
directory takes 20 kB for each object while it is made, so that one is made at a time, and of so
many objects only.
Its patients are those of the studies in the index, whatever single objects say or leave out.
"""

from __future__ import annotations

import itertools
import tempfile
import threading
import warnings
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from io import RawIOBase
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from pydicom.dataset import Dataset
from pydicom.fileset import FileSet
from sqlalchemy.exc import SQLAlchemyError

from lfscp.archive.index.study_patients import StudyPatient, patients_of_instances
from lfscp.archive.store.object_store import StoredFile
from lfscp.archive.store.received_objects import StoredInstance
from lfscp.dicom.attributes import Level
from lfscp.dicom.charset import UTF_8, encoder
from lfscp.dicom.person_names import search_form
from lfscp.jobs.record_head import read_record_head

if TYPE_CHECKING:
    from lfscp.archive.archive import Archive

_PIECE_BYTES: Final = 1 << 20
MAX_PACKED: Final = 8_000  # objects of one ZIP
_MAKING: Final = threading.Lock()  # a directory
# What a DICOMDIR must say of an object (type 1, PS3.3 section F.5) and the object may lack; as
# other tools invent it.
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


class _Pieces(RawIOBase):
    """A file that cannot seek, from which what was written is drawn."""

    def __init__(self) -> None:
        super().__init__()
        self._written: list[bytes] = []
        self._position = 0

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self._written.append(bytes(data))
        self._position += len(data)
        return len(data)

    def tell(self) -> int:
        return self._position

    def draw(self) -> bytes:
        """All that was written since the last time."""
        drawn, self._written = b"".join(self._written), []
        return drawn


class PackageError(Exception):
    """These studies cannot become a ZIP.

    Args:
        reason: one sentence for the user.
        passing: whether trying again later can help.
    """

    def __init__(self, reason: str, *, passing: bool = False) -> None:
        super().__init__(reason)
        self.passing = passing


def package(archive: Archive, studies: Sequence[str]) -> Iterator[bytes]:
    """The ZIP of these studies, piece by piece; an object that is gone by then is left out.

    The DICOMDIR is made before this returns.

    Args:
        studies: Study Instance UIDs; those that the archive does not have are left out.
    Raises:
        ArchiveError: the index cannot be read.
        PackageError: they have too many objects, or another ZIP is being made.
    """
    instances = archive.select(Level.STUDY, {Level.STUDY: list(dict.fromkeys(studies))})
    if len(instances) > MAX_PACKED:
        raise PackageError(
            f"a ZIP holds at most {MAX_PACKED:,} objects, and these studies have "
            f"{len(instances):,}; select fewer, or retrieve them into a folder"
        )
    if not _MAKING.acquire(blocking=False):
        raise PackageError("another ZIP is being made; try again later", passing=True)
    try:
        dicomdir, names = _directory(instances, _whose(archive, instances))
    finally:
        _MAKING.release()
    return _zipped(instances, dicomdir, names)


def _zipped(
    instances: Iterable[StoredInstance], dicomdir: bytes, names: Mapping[str, str]
) -> Iterator[bytes]:
    pieces = _Pieces()
    with zipfile.ZipFile(pieces, "w", allowZip64=True) as target:
        if dicomdir:
            target.writestr(zipfile.ZipInfo("DICOMDIR"), dicomdir)
        for instance in instances:
            yield from _add(target, pieces, names[instance.sop_instance_uid], instance.path)
    yield pieces.draw()


def _whose(archive: Archive, instances: Iterable[StoredInstance]) -> dict[str, StudyPatient]:
    """The patient of each instance's study, by SOP Instance UID.

    Raises:
        ArchiveError: the index cannot be read.
    """
    try:
        with archive.index.engine.connect() as connection:
            return patients_of_instances(connection, [each.sop_instance_uid for each in instances])
    except SQLAlchemyError as error:
        raise archive.index.cannot("read the index", error) from None


def _add(target: zipfile.ZipFile, pieces: _Pieces, name: str, file: StoredFile) -> Iterator[bytes]:
    # Stored, not deflated: most images are compressed already, or not worth the time.
    try:
        stream = file.open("rb")
    except OSError:
        return  # deleted in the meantime
    with stream, target.open(zipfile.ZipInfo(name), "w", force_zip64=True) as member:
        while piece := stream.read(_PIECE_BYTES):
            member.write(piece)
            yield pieces.draw()


class _Patients:
    """The PATIENT records there shall be: one for each patient of the index and name.

    What a patient's studies leave out of the name is no other name. Who has no Patient ID gets one
    that no other has.

    Args:
        whose: the patients of all studies of the directory.
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
        """What stands for the patient's record while the directory is made."""
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
        """Put the patient in the place of the number."""
        patient = self._named[str(record.PatientID)]
        text = "\\".join((patient.patient_id, patient.issuer, patient.name))
        if not text.isascii():
            record.SpecificCharacterSet = _character_set(record, text)
        record.PatientID, record.PatientName = patient.patient_id, patient.name
        if patient.issuer:
            record.IssuerOfPatientID = patient.issuer


def _character_set(record: Dataset, text: str) -> list[str]:
    """The character set of a record if it has the text, else one that has."""
    own = record.get("SpecificCharacterSet") or ""
    charset, encode = encoder(own if isinstance(own, str) else "\\".join(own))
    try:
        encode(text)
    except UnicodeEncodeError:
        charset = UTF_8
    return charset.split("\\")


class _FileSet(FileSet):
    """pydicom's, with the patients of the index, and with an end.

    It knows patients by their Patient ID alone, which several may share or lack: each is added
    under a number of its own, and gets its own values afterwards. Without an end its temporary
    folder stays until the garbage is collected.
    """

    def add_head(self, head: Dataset, patient_number: str) -> None:
        """Make the records of an object."""
        head.PatientID = patient_number
        self.add(head)

    def complete(self, patients: _Patients) -> None:
        """To be called when all is added. Relied on: patients are children of `_tree`."""
        for node in self._tree.children:
            if node.record_type == "PATIENT":
                patients.complete(node._record)  # noqa: SLF001

    def close(self) -> None:
        """Remove the folder. Relied on: `_stage["t"]` is its TemporaryDirectory."""
        self._stage["t"].cleanup()


def _directory(
    instances: Iterable[StoredInstance], whose: Mapping[str, StudyPatient]
) -> tuple[bytes, dict[str, str]]:
    """A DICOMDIR, and the name of each object in the ZIP by its SOP Instance UID.

    What pydicom cannot make a directory record of goes into the folder OTHER, unlisted.
    """
    names: dict[str, str] = {}
    with (
        tempfile.TemporaryDirectory(prefix="lfscp-") as folder,
        closing(_FileSet()) as file_set,
    ):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of values that are not quite as they should be
            _fill(file_set, instances, whose, names)
            if not len(file_set):
                return b"", names
            root = Path(folder, "set").resolve()
            file_set.write(root)
        for listed in file_set:
            names[str(listed.SOPInstanceUID)] = Path(listed.path).relative_to(root).as_posix()
        return (root / "DICOMDIR").read_bytes(), names


def _fill(
    file_set: _FileSet,
    instances: Iterable[StoredInstance],
    whose: Mapping[str, StudyPatient],
    names: dict[str, str],
) -> None:
    """Make the records; what none can be made of gets its name in the ZIP at once."""
    patients = _Patients(whose.values())
    for number, instance in enumerate(instances, 1):
        try:
            patient = patients.number(whose[instance.sop_instance_uid])
            file_set.add_head(_head(instance), patient)
        except Exception:  # noqa: BLE001 - pydicom raises what it likes on odd objects
            names[instance.sop_instance_uid] = f"OTHER/{number:08d}"
    file_set.complete(patients)


def _head(instance: StoredInstance) -> Dataset:
    """The object without its bulk, and with what its record needs."""
    head = read_record_head(instance)
    for keyword, value in _INVENTED.items():
        if not head.get(keyword) and head.get(keyword) != 0:
            setattr(head, keyword, value)
    return head
