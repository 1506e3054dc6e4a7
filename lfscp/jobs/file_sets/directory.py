"""Writes a DICOMDIR in one pass: each record is encoded when it is made, and kept as bytes.

Rules: what a record says is pydicom's. Its FileSet would keep each object in a file and 20 kB of
memory, and compare it with all others of its series. Here a record takes some hundred bytes, and
is found by its key. The records of one level are in the order in which they were added.
Source: PS3.3 annex F, PS3.10 section 8.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Sequence
from io import BytesIO
from itertools import pairwise
from typing import Final

from pydicom import dcmwrite
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.filebase import DicomBytesIO
from pydicom.fileset import FileSet
from pydicom.filewriter import write_dataset
from pydicom.uid import UID, ExplicitVRLittleEndian, MediaStorageDirectoryStorage, generate_uid

_NAMES: Final = {"PATIENT": "PT", "STUDY": "ST", "SERIES": "SE"}  # of others, as the type begins
_ITEM: Final = struct.Struct("<HHL")
_SEQUENCE: Final = struct.Struct("<HH2sHL")
_OFFSET: Final = struct.Struct("<L")
_NEXT: Final = 8  # where an encoded record has the offset of the next one of its level,
_LOWER: Final = 30  # and of the first one below it: Record In-use Flag is between them


class Recorder(FileSet):
    """Makes the records of objects. Relied on of pydicom: `_recordify` uses nothing of the set."""

    def __init__(self) -> None:  # pydicom's makes a temporary folder
        pass

    def records_of(self, head: Dataset) -> list[Dataset]:
        """The records of an object, the highest first: four of most objects, else one.

        Args:
            head: its elements before the pixels, with file meta information.
        Raises:
            ValueError: it lacks a value that a record needs.
        """
        records = list(self._recordify(head))
        if "SpecificCharacterSet" in head:  # pydicom leaves it out of a record of no patient
            records[-1].SpecificCharacterSet = head.SpecificCharacterSet
        return records


class _Entry:
    """An encoded record, and those below it by their keys."""

    __slots__ = ("content", "lower", "name", "offset")

    def __init__(self, content: bytearray, name: str) -> None:
        self.content = content
        self.name = name
        self.offset = 0
        self.lower: dict[str, _Entry] = {}


class Directory:
    """The records of a DICOMDIR; for one thread."""

    def __init__(self) -> None:
        self._root: dict[str, _Entry] = {}

    def __bool__(self) -> bool:
        return bool(self._root)

    def add(self, records: Sequence[Dataset], keys: Sequence[str]) -> str:
        """Add an object.

        Args:
            records: as `Recorder.records_of` gives them; one whose key is there is left out.
            keys: of the records, each unlike those of its siblings.
        Returns:
            The name of its file below the DICOMDIR.
        Raises:
            Exception: pydicom's, on values that cannot be encoded; nothing is added then.
        """
        level, names = self._root, []
        for key in keys:
            if key not in level:
                break
            names.append(level[key].name)
            level = level[key].lower
        there = len(names)
        for record in records[there:]:
            names.append(_name_of(record, len(level) if len(names) == there else 0))
        if there < len(records):
            records[-1].ReferencedFileID = names
        new = zip(records[there:], names[there:], strict=True)
        made = [_Entry(_encoded(record), name) for record, name in new]
        for key, entry in zip(keys[there:], made, strict=True):
            level[key] = entry
            level = entry.lower
        return "/".join(names)

    def encoded(self) -> bytes:
        """The DICOMDIR as a file; the names in it stay valid if no further object is added."""
        uid = generate_uid()
        at = len(_beginning(uid, [])) + _SEQUENCE.size
        entries = list(_all_of(self._root))
        size = sum(_ITEM.size + len(each.content) for each in entries)
        for each in entries:
            each.offset = at
            at += _ITEM.size + len(each.content)
        _link(self._root.values())
        parts = [_beginning(uid, list(self._root.values()))]
        parts.append(_SEQUENCE.pack(0x0004, 0x1220, b"SQ", 0, size))
        for each in entries:
            parts += (_ITEM.pack(0xFFFE, 0xE000, len(each.content)), bytes(each.content))
        return b"".join(parts)


def _name_of(record: Dataset, number: int) -> str:
    """A component of a File ID, of 8 characters (PS3.10 section 8.2)."""
    kind = str(record.DirectoryRecordType)
    return f"{_NAMES.get(kind, kind[:2])}{number:06d}"


def _encoded(record: Dataset) -> bytearray:
    """A record without the head of its item, in Explicit VR Little Endian."""
    file = DicomBytesIO()
    file.is_little_endian, file.is_implicit_VR = True, False
    write_dataset(file, record)
    return bytearray(file.getvalue())


def _all_of(level: dict[str, _Entry]) -> Iterator[_Entry]:
    """The records of a level, each followed by those below it."""
    for entry in level.values():
        yield entry
        yield from _all_of(entry.lower)


def _link(level: Iterable[_Entry]) -> None:
    """Write the offsets of next and first lower records (PS3.3 section F.3.2.2)."""
    entries = list(level)
    for entry, following in pairwise([*entries, None]):
        assert entry is not None  # noqa: S101 - for mypy: None is the last
        _OFFSET.pack_into(entry.content, _NEXT, following.offset if following else 0)
        lower = list(entry.lower.values())
        _OFFSET.pack_into(entry.content, _LOWER, lower[0].offset if lower else 0)
        _link(lower)


def _beginning(uid: UID, root: Sequence[_Entry]) -> bytes:
    """All before the records, of the same length whatever the records are."""
    directory = Dataset()
    directory.file_meta = FileMetaDataset()
    directory.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    directory.file_meta.MediaStorageSOPClassUID = MediaStorageDirectoryStorage
    directory.file_meta.MediaStorageSOPInstanceUID = uid
    directory.FileSetID = None
    first, last = (root[0].offset, root[-1].offset) if root else (0, 0)
    directory.OffsetOfTheFirstDirectoryRecordOfTheRootDirectoryEntity = first
    directory.OffsetOfTheLastDirectoryRecordOfTheRootDirectoryEntity = last
    directory.FileSetConsistencyFlag = 0
    file = BytesIO()
    dcmwrite(file, directory, enforce_file_format=True)
    return file.getvalue()
