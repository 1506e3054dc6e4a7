"""Stores a DICOM file that came over HTTP, and counts and logs it."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Final

from lfscp.archive.store_file import StoredObject, store_file
from lfscp.observe import audit, metrics
from lfscp.observe.logging import get_logger
from lfscp.services.contexts import require_stored_class
from lfscp.web.context import Web

LOG: Final = get_logger("lfscp.web")
UPLOAD: Final = "upload"
STOW: Final = "STOW-RS"


def store_spooled(web: Web, spooled: Path, service: str, study_uid: str = "") -> StoredObject:
    """Store the object in a file of the archive's incoming folder, which is taken over.

    Args:
        service: UPLOAD or STOW.
        study_uid: the study that it must belong to; empty for any.
    Raises:
        OperationError: it is no DICOM file, or the archive refuses it.
    """
    found = store_file(
        web.archive,
        spooled,
        is_ours=True,
        require_class=partial(require_stored_class, web.settings),
        study_uid=study_uid,
        address=audit.actor_address(),
    )
    stored, notes = found.stored, notes_of(found)
    metrics.RECEIVED_INSTANCES.of(service).add()
    metrics.RECEIVED_BYTES.of(service).add(stored.size)
    LOG.info(
        "uploaded" if service == UPLOAD else "stored",
        **({} if service == UPLOAD else {"service": service}),
        sop_class_uid=found.sop_class_uid,
        sop_instance_uid=found.sop_instance_uid,
        outcome=stored.outcome.value,
        bytes=stored.size,
        **({"notes": "; ".join(notes)} if notes else {}),
    )
    return found


def notes_of(found: StoredObject) -> list[str]:
    """What was odd about a file, and about its object."""
    return [*found.notes, *found.stored.notes]
