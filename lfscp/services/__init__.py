"""The DICOM services of a node, one module each, as pynetdicom handlers over the archive.

| file | responsibility |
|---|---|
| verification, storage, query, retrieve | one service each |
| models, contexts, permissions | SOP classes, what is negotiated, who may do what |
| identifier, status, record | reading a request, refusing it, logging it |
| associations, trail | beginning and end of each; what the audit trail is told |
| plan, transfer, destination | the sub-operations of a retrieve |
| decoding | an object in another transfer syntax |
| frames, compressed_frames, native_frames, codestream, decoded | its frames, decoded |
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lfscp.archive.archive import Archive
    from lfscp.config import Settings
    from lfscp.config.current import CurrentSettings


def all_handlers(archive: Archive, settings: Settings | CurrentSettings) -> list[tuple[Any, Any]]:
    """Every handler of a node, to be given to a server as `evt_handlers`."""
    from lfscp.config.current import CurrentSettings
    from lfscp.services import associations, models, verification
    from lfscp.services.audit_events import Patients
    from lfscp.services.query_retrieve import c_find, c_move_c_get
    from lfscp.services.storage import c_store

    current = CurrentSettings.of(settings)
    patients = Patients(archive)
    return [
        *associations.handlers(patients),
        *verification.handlers(current),
        *c_store.handlers(archive, current, patients),
        *c_find.handlers(archive, current),
        *c_move_c_get.handlers(archive, current),
        *models.handlers(),
    ]
