"""Reads DICOM files and folders as objects that can be sent."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

from lfscp.archive.store.received_objects import StoredInstance, mapped
from lfscp.dicom.errors import DatasetError
from lfscp.dicom.part10.media import NotDicomError, identity_of, read_media
from lfscp.dicom.reading.header import is_uid


class NoObjectError(Exception):
    """The file is no DICOM object; the text says why."""


class BrokenObjectError(NoObjectError):
    """The file is a DICOM object that cannot be sent."""


def files_below(path: Path) -> Iterator[Path]:
    """The file itself, or all regular files below a folder in a stable order.

    Links to folders are not followed, nor are links to files: they could lead anywhere.
    """
    if path.is_file():
        yield path
        return
    for parent, folders, names in os.walk(path):
        folders.sort()
        for name in sorted(names):
            file = Path(parent, name)
            if file.is_file() and not file.is_symlink():
                yield file


def read_instance(file: Path, on_note: Callable[[str], None] | None = None) -> StoredInstance:
    """Read a DICOM file; study and series stay empty. The dataset's own UIDs count.

    Args:
        on_note: told what is odd about the file.
    Raises:
        NoObjectError: it is no DICOM file, or a DICOMDIR.
        BrokenObjectError: it is one, and damaged, or has no UIDs to send it under.
        OSError: it cannot be read.
    """
    with file.open("rb") as stream:
        size = os.fstat(stream.fileno()).st_size
        if not size:
            raise NoObjectError("no DICOM file: it is empty")
        with mapped(stream.fileno()) as content:
            try:
                media = read_media(content)
            except NotDicomError as error:
                raise NoObjectError(error.reason) from None
            except DatasetError as error:
                raise BrokenObjectError(error.reason) from None
            dataset = content[media.dataset_offset :]
            uids = identity_of(dataset, media.transfer_syntax_uid)
    # If the dataset is broken from its first element on, the receiver decides.
    sop_class_uid = uids[0] or media.sop_class_uid
    sop_instance_uid = uids[1] or media.sop_instance_uid
    if not sop_class_uid or not sop_instance_uid:
        raise BrokenObjectError("it has no SOP Class UID or no SOP Instance UID")
    for name, uid in (("Class", sop_class_uid), ("Instance", sop_instance_uid)):
        if not is_uid(uid):
            raise BrokenObjectError(f"its SOP {name} UID is no valid UID")
    notes = media.notes_on(sop_class_uid, sop_instance_uid)
    if notes and on_note is not None:
        on_note("; ".join(notes))
    return StoredInstance(
        sop_class_uid,
        sop_instance_uid,
        media.transfer_syntax_uid,
        file,
        media.dataset_offset,
        size - media.dataset_offset,
        "",
        "",
    )
