"""Puts all handlers of a node together."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lfscp.config.current import CurrentSettings
from lfscp.services import associations, models, verification
from lfscp.services.audit_events import Patients
from lfscp.services.commitment import n_action, n_event_report
from lfscp.services.query_retrieve import c_find, c_move_c_get
from lfscp.services.storage import c_store

if TYPE_CHECKING:
    from lfscp.archive.archive import Archive
    from lfscp.config import Settings


def all_handlers(archive: Archive, settings: Settings | CurrentSettings) -> list[tuple[Any, Any]]:
    """Every handler of a node, for a server's `evt_handlers`."""
    current = CurrentSettings.of(settings)
    patients = Patients(archive)
    return [
        *associations.handlers(patients),
        *verification.handlers(current),
        *c_store.handlers(archive, current, patients),
        *c_find.handlers(archive, current),
        *c_move_c_get.handlers(archive, current),
        *n_action.handlers(archive, current),
        *n_event_report.handlers(archive),
        *models.handlers(),
    ]
