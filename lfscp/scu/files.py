"""DICOM files in folders, as objects that can be sent."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from lfscp.archive.errors import CannotUnderstand
from lfscp.archive.objects import StoredInstance
from lfscp.archive.part10 import read_part10

_HEAD_BYTES: Final = 64 * 1024  # in which the file meta information ends
_MEDIA_STORAGE_DIRECTORY: Final = "1.2.840.10008.1.3.10"  # a DICOMDIR: a list, no object


class NoObject(Exception):  # noqa: N818 - says what it is
    """A file that is no DICOM object; the text says why."""


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


def read_instance(file: Path) -> StoredInstance:
    """What a DICOM file holds, from its head only; study and series are left empty.

    Raises:
        NoObject: it is no DICOM file, or a DICOMDIR.
        OSError: it cannot be read.
    """
    with file.open("rb") as stream:
        head = stream.read(_HEAD_BYTES)
        size = os.fstat(stream.fileno()).st_size
    try:
        meta = read_part10(head)
    except CannotUnderstand as error:
        raise NoObject(error.reason) from None
    if meta.sop_class_uid == _MEDIA_STORAGE_DIRECTORY:
        raise NoObject("a DICOMDIR, a list of objects and none itself")
    if not meta.sop_class_uid or not meta.sop_instance_uid:
        raise NoObject("the file meta information lacks the SOP class or instance UID")
    if size <= meta.dataset_offset:
        raise NoObject("the dataset is empty")
    return StoredInstance(
        meta.sop_class_uid,
        meta.sop_instance_uid,
        meta.transfer_syntax_uid,
        file,
        meta.dataset_offset,
        size - meta.dataset_offset,
        "",
        "",
    )
