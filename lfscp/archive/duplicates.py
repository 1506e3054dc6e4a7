"""Compares an object that came again with the stored one: its place, and its bytes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lfscp.archive.errors import InstanceElsewhereError
from lfscp.archive.index.patient_identity import PATIENT_ID
from lfscp.archive.index.rows import Existing
from lfscp.archive.store.digest import ALGORITHMS, CRYPTOGRAPHIC, algorithm_of, digest_of_file
from lfscp.archive.store.received_objects import (
    Received,
    digest_of_received,
    has_same_bytes,
    size_of,
)
from lfscp.archive.store.stored_head import fault_in_file
from lfscp.dicom.part10.file_head import Expected
from lfscp.dicom.reading.header import SOP_INSTANCE_UID, Header

if TYPE_CHECKING:
    from lfscp.archive.store.object_store import StoredFile


class DamagedError(Exception):
    """The object that came is the one that was stored, but the stored file is damaged."""


def require_same_place(header: Header, existing: Existing) -> None:
    """Refuse an instance that is stored for another patient, study or series than it names.

    Raises:
        InstanceElsewhereError: it is.
    """
    if existing.is_elsewhere(header):
        tag = PATIENT_ID if existing.is_of_other_patient(header) else SOP_INSTANCE_UID
        raise InstanceElsewhereError(tag, existing.study_uid, existing.series_uid)


def is_same(received: Received, existing: Existing, file: StoredFile) -> bool:
    """Whether a received object has the bytes of the stored one.

    Args:
        existing: the stored one's row.
        file: where it is.
    Raises:
        DamagedError: it has the digest of the row, and the stored file has not, or a broken head.
        OSError: there is no digest, and the stored file cannot be read.
    """
    if (received.transfer_syntax_uid, size_of(received)) != (
        existing.transfer_syntax_uid,
        existing.size,
    ):
        return False
    algorithm = algorithm_of(existing.digest)
    if algorithm not in ALGORITHMS:
        return has_same_bytes(received, file, existing.dataset_offset)
    if digest_of_received(received, algorithm) != existing.digest:
        return False
    if algorithm in CRYPTOGRAPHIC:
        return True
    try:
        if has_same_bytes(received, file, existing.dataset_offset):
            expected = Expected(
                received.sop_class_uid,
                received.sop_instance_uid,
                existing.transfer_syntax_uid,
                existing.dataset_offset,
            )
            if fault_in_file(file, expected):
                raise DamagedError
            return True
        found = digest_of_file(file, existing.dataset_offset, algorithm)
    except OSError:
        found = ""
    if found != existing.digest:
        raise DamagedError
    return False  # made on purpose: other bytes of the same digest
