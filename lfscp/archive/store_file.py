"""Stores a DICOM file of any form, for uploads and imports.

Rules: the dataset's own UIDs count, not those of the file meta information. The stored file is a
correct Part 10 file: a file that is one is taken as it is; of any other, only the dataset is taken.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from lfscp.archive.errors import OtherStudyError
from lfscp.archive.store.received_objects import Received, Stored, mapped
from lfscp.dicom.part10.file_head import HEAD_BYTES, Expected, fault_of_head
from lfscp.dicom.part10.media import MediaFile, NotDicomError, read_media
from lfscp.dicom.reading.header import read_header

if TYPE_CHECKING:
    from lfscp.archive.archive import Archive

_IN_MEMORY: Final = 4 << 20  # bytes of a dataset that are still in memory: it was just written


@dataclass(frozen=True, slots=True)
class StoredObject:
    """An object of a file, and what became of it.

    Args:
        notes: what was odd about the file, fit for the log.
    """

    stored: Stored
    sop_class_uid: str
    sop_instance_uid: str
    notes: tuple[str, ...]


def store_file(
    archive: Archive,
    path: Path,
    *,
    require_class: Callable[[str], None],
    is_ours: bool = False,
    study_uid: str = "",
    address: str = "",
) -> StoredObject:
    """Store the object in a file.

    Args:
        require_class: raises an ArchiveError when objects of a SOP class are not to be stored.
        is_ours: the file is in `Archive.incoming_dir`, and may be taken over.
        study_uid: the study that the object must belong to; empty for any.
        address: IP address of the sender; empty if there is none.
    Raises:
        ArchiveError: it is no object, or refused.
        OSError: the file cannot be read.
    """
    with path.open("rb") as file:
        if not file.seek(0, 2):
            raise NotDicomError("no DICOM file: it is empty")
        with mapped(file.fileno()) as content:
            media = read_media(content)
            dataset = content[media.dataset_offset :]
            header = read_header(dataset, media.transfer_syntax_uid)
            require_class(header.sop_class_uid)
            if study_uid and header.study_instance_uid != study_uid:
                raise OtherStudyError(study_uid, header.study_instance_uid)
            notes = media.notes_on(header.sop_class_uid, header.sop_instance_uid)
            received = Received(
                header.sop_class_uid,
                header.sop_instance_uid,
                media.transfer_syntax_uid,
                media.source_ae_title,
                dataset,
                header=header,
                address=address,
            )
            if is_ours and not notes and _is_right(content, media):
                received = replace(
                    received,
                    dataset=dataset if len(dataset) <= _IN_MEMORY else None,
                    spooled_path=path,
                    dataset_offset=media.dataset_offset,
                )
            stored = archive.store(received)
    as_stored = stored.header or header  # a coercion may have changed it
    return StoredObject(stored, header.sop_class_uid, as_stored.sop_instance_uid, notes)


def _is_right(content: memoryview, media: MediaFile) -> bool:
    """Whether the file's head is one that `lfscp check` finds nothing wrong with."""
    return not fault_of_head(bytes(content[:HEAD_BYTES]), Expected.of(media))
