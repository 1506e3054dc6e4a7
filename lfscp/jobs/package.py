"""Studies of the archive as one ZIP with a DICOMDIR, made while it is read (PS3.10, PS3.3 annex F).

The DICOMDIR is made first, from the objects' headers only, in a temporary folder; then objects go
from the archive into the ZIP piece by piece. Memory stays bounded, and no object is copied to disk.
"""

from __future__ import annotations

import tempfile
import warnings
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from io import RawIOBase
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.fileset import FileSet

from lfscp.archive.attributes import Level
from lfscp.archive.deflated import require_bounded_file
from lfscp.archive.missing_vrs import open_with_vrs
from lfscp.archive.object_store import StoredFile
from lfscp.archive.objects import StoredInstance
from lfscp.archive.person_names import search_form

if TYPE_CHECKING:
    from lfscp.archive.archive import Archive

_PIECE_BYTES: Final = 1 << 20
_PIXELS: Final = ("PixelData", "FloatPixelData", "DoubleFloatPixelData", "EncapsulatedDocument")
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


def package(archive: Archive, studies: Sequence[str]) -> Iterator[bytes]:
    """The ZIP of these studies, piece by piece; an object that is gone by then is left out.

    Args:
        studies: Study Instance UIDs; those that the archive does not have are left out.
    Raises:
        ArchiveError: the index cannot be read.
    """
    instances = [
        each
        for study in dict.fromkeys(studies)
        for each in archive.select(Level.STUDY, {Level.STUDY: [study]})
    ]
    pieces = _Pieces()
    with (
        _directory(instances) as (dicomdir, names),
        zipfile.ZipFile(pieces, "w", allowZip64=True) as target,
    ):
        if dicomdir is not None:
            yield from _add(target, pieces, "DICOMDIR", dicomdir)
        for instance in instances:
            yield from _add(target, pieces, names[instance.sop_instance_uid], instance.path)
    yield pieces.draw()


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


class _FileSet(FileSet):
    """pydicom's, with a record for each patient, and with an end.

    It knows patients by their Patient ID alone, which several may share or lack: each is added
    under an ID of its own, and gets back the one it has. Without an end its temporary folder
    stays until the garbage is collected.
    """

    def __init__(self) -> None:
        super().__init__()
        self._own: dict[str, str] = {}  # by the ID that a patient is added under
        self._added: dict[tuple[str, str], str] = {}  # by Patient ID and name, or by study

    def add_head(self, head: Dataset, study_uid: str) -> None:
        """Make the records of an object."""
        patient_id = str(head.get("PatientID") or "")
        name = search_form(str(head.get("PatientName") or ""))
        patient = (patient_id, name if patient_id else study_uid)
        if patient not in self._added:
            number = str(len(self._own) + 1)
            self._own[number] = patient_id or f"{_UNKNOWN}{number}"
            self._added[patient] = number
        head.PatientID = self._added[patient]
        head.PatientName = head.get("PatientName") or _UNKNOWN
        self.add(head)

    def give_back_patient_ids(self) -> None:
        """To be called when all is added. Relied on: the children of `_tree` are patients."""
        for node in self._tree.children:
            node._record.PatientID = self._own[str(node._record.PatientID)]  # noqa: SLF001

    def close(self) -> None:
        """Remove the folder. Relied on: `_stage["t"]` is its TemporaryDirectory."""
        self._stage["t"].cleanup()


@contextmanager
def _directory(
    instances: Iterable[StoredInstance],
) -> Iterator[tuple[Path | None, dict[str, str]]]:
    """A DICOMDIR, and the name of each object in the ZIP by its SOP Instance UID.

    What pydicom cannot make a directory record of goes into the folder OTHER, unlisted.
    """
    names: dict[str, str] = {}
    with (
        tempfile.TemporaryDirectory(prefix="lfscp-") as folder,
        closing(_FileSet()) as file_set,
    ):
        _fill(file_set, instances, names)
        if not len(file_set):
            yield None, names
            return
        file_set.give_back_patient_ids()
        root = Path(folder, "set").resolve()
        file_set.write(root)
        for listed in file_set:
            names[str(listed.SOPInstanceUID)] = Path(listed.path).relative_to(root).as_posix()
        yield root / "DICOMDIR", names


def _fill(file_set: _FileSet, instances: Iterable[StoredInstance], names: dict[str, str]) -> None:
    """Make the records; what none can be made of gets its name in the ZIP at once."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of values that are not quite as they should be
        for number, instance in enumerate(instances, 1):
            try:
                file_set.add_head(_head(instance), instance.study_uid)
            except Exception:  # noqa: BLE001 - pydicom raises what it likes on odd objects
                names[instance.sop_instance_uid] = f"OTHER/{number:08d}"


def _head(instance: StoredInstance) -> Dataset:
    """The object without its bulk, and with what its record needs."""
    require_bounded_file(instance.path)
    with open_with_vrs(instance.path) as file:
        head = dcmread(file, stop_before_pixels=True)
    for keyword in _PIXELS:
        if keyword in head:
            del head[keyword]
    for keyword, value in _INVENTED.items():
        if not head.get(keyword) and head.get(keyword) != 0:
            setattr(head, keyword, value)
    return head
