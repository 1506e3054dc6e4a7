"""Remembers objects that are kept as they were, since another file took their place.

Rules: a kept object goes when its instance is deleted, or its correction is confirmed. Its file is
in no row of `instance`; whoever clears left-over files asks here.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

from sqlalchemy import Connection, func, insert, select

from lfscp.archive.index.clock_readings import wall_ms
from lfscp.archive.index.removal import pieces_of
from lfscp.archive.index.tables.correction_tables import kept_object

if TYPE_CHECKING:
    from lfscp.archive.index.index import Index
    from lfscp.archive.store.object_store import Placement
    from lfscp.dicom.reading.header import Header

ON_ARRIVAL: Final = ""  # in place of a correction


def keep_arrived(index: Index, stored_uid: str, header: Header, placement: Placement) -> None:
    """Remember an object as it came, which is in a file that no other row has.

    Args:
        stored_uid: SOP Instance UID of the object that was made of it.
        header: of the object as it came.
    Raises:
        ArchiveError: the index cannot be written to; InDoubtError: perhaps it was.
    """
    values = {
        "sop_instance_uid": stored_uid,
        "study_instance_uid": header.study_instance_uid,
        "dataset_character_set": header.specific_character_set,
        "path": placement.path,
        "transfer_syntax_uid": placement.transfer_syntax_uid,
        "dataset_offset": placement.dataset_offset,
        "size": placement.size,
        "file_size": placement.file_size,
        "digest": placement.digest,
        "calling_ae_title": placement.calling_ae_title,
        "kept_at": wall_ms(),
    }
    with index.doing("write to the index", commits=True), index.writing() as connection:
        connection.execute(insert(kept_object).values(values))


def is_kept(index: Index, stored_uid: str, file_size: int, digest: str) -> bool:
    """Whether an object is kept already as it came now.

    Raises:
        ArchiveError: the index cannot be read.
    """
    wanted = select(kept_object.c.id).where(
        kept_object.c.sop_instance_uid == stored_uid,
        kept_object.c.correction_id == ON_ARRIVAL,
        kept_object.c.file_size == file_size,
        kept_object.c.digest == digest,
    )
    with index.doing("read the index"), index.engine.connect() as connection:
        return connection.execute(wanted).first() is not None


def was_corrected(index: Index, sop_instance_uid: str, size: int, digest: str) -> bool:
    """Whether an object is one that a correction has replaced, and that is kept still.

    Args:
        size: bytes of its dataset.
    Raises:
        ArchiveError: the index cannot be read.
    """
    wanted = select(kept_object.c.id).where(
        kept_object.c.sop_instance_uid == sop_instance_uid,
        kept_object.c.correction_id != ON_ARRIVAL,
        kept_object.c.size == size,
        kept_object.c.digest == digest,
    )
    with index.doing("read the index"), index.engine.connect() as connection:
        return connection.execute(wanted).first() is not None


def kept_among(connection: Connection, paths: Iterable[str]) -> set[str]:
    """Those of some files that are kept."""
    found: set[str] = set()
    for piece in pieces_of(paths):
        wanted = select(kept_object.c.path).where(kept_object.c.path.in_(piece))
        found.update(connection.execute(wanted).scalars())
    return found


def kept_size(connection: Connection) -> int:
    """Bytes of all kept files."""
    return int(connection.execute(select(func.sum(kept_object.c.file_size))).scalar() or 0)
