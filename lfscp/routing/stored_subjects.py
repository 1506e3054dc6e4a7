"""Reads a stored object, or a file, as conditions see it."""

from __future__ import annotations

import mmap
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import select

from lfscp.archive.index.tables.schema import instance as instance_table
from lfscp.archive.store.received_objects import StoredInstance
from lfscp.dicom.part10.media import read_media
from lfscp.dicom.reading.header import invalid_start, read_header
from lfscp.rules.conditions.attributes import subject_of
from lfscp.rules.conditions.subject import Subject

if TYPE_CHECKING:
    from lfscp.archive.index.index import Index
    from lfscp.archive.store.object_store import StoredFile


@dataclass(frozen=True, slots=True)
class FileSubject:
    """An object in a file, with the study that it belongs to."""

    subject: Subject
    study_uid: str


def file_subject(
    path: StoredFile, calling: str | None = None, called: str = "", address: str = ""
) -> FileSubject:
    """The object in a file.

    Args:
        calling: AE title of the sender; None for the one that the file names.
    Raises:
        DatasetError: it is none.
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        # It stays mapped for as long as the attributes are needed.
        content = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    media = read_media(content)
    syntax = media.transfer_syntax_uid
    dataset = content[media.dataset_offset :]
    dataset = dataset[invalid_start(dataset, syntax) :]
    header = read_header(dataset, syntax)
    calling = media.source_ae_title if calling is None else calling
    subject = subject_of(header, syntax, lambda: dataset, calling, called, address)
    return FileSubject(subject, header.study_instance_uid)


def stored_subject(index: Index, instance: StoredInstance) -> Subject:
    """A stored object, with its sender as the index knows it.

    The index does not know by which AE title and from which address it came.

    Raises:
        ArchiveError: the index cannot be read.
        DatasetError, OSError: the object cannot be read.
    """
    column = instance_table.c
    wanted = select(column.calling_ae_title).where(
        column.sop_instance_uid == instance.sop_instance_uid
    )
    with index.doing("read the index"), index.engine.connect() as connection:
        calling = connection.execute(wanted).scalar()
    return file_subject(instance.path, str(calling or "")).subject
