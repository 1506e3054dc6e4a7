"""Writes the changed form of an object into a file for a while."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from lfscp.archive.durability import PART
from lfscp.archive.store.files import write_pieces
from lfscp.archive.store.received_objects import StoredInstance
from lfscp.dicom.part10.file_meta import part10_header

Uids = tuple[str, str, str]  # Study, Series and SOP Instance UID


@contextmanager
def changed_file(
    instance: StoredInstance,
    folder: Path,
    uids: Uids,
    transfer_syntax_uid: str,
    pieces: Iterable[bytes | memoryview],
    sop_class_uid: str = "",
) -> Iterator[StoredInstance]:
    """The object in another form, valid inside.

    Args:
        instance: the object as it was.
        folder: of the file, which is removed afterwards; what a crash leaves goes at the next
            start.
        pieces: its dataset.
        sop_class_uid: if it is another one.
    Raises:
        OutOfResourcesError: it cannot be written.
    """
    sop_class_uid = sop_class_uid or instance.sop_class_uid
    study_uid, series_uid, sop_instance_uid = uids
    head = part10_header(sop_class_uid, sop_instance_uid, transfer_syntax_uid)
    path = folder / f"route-{uuid.uuid4().hex}{PART}"
    size = 0

    def counted() -> Iterator[bytes | memoryview]:
        nonlocal size
        yield head
        for piece in pieces:
            size += len(piece)
            yield piece

    try:
        write_pieces(str(path), counted())
        yield replace(
            instance,
            sop_class_uid=sop_class_uid,
            sop_instance_uid=sop_instance_uid,
            transfer_syntax_uid=transfer_syntax_uid,
            path=path,
            dataset_offset=len(head),
            size=size,
            study_uid=study_uid,
            series_uid=series_uid,
        )
    finally:
        path.unlink(missing_ok=True)
