"""Puts all handlers of a node together."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pynetdicom import evt

from lfscp.archive.workflow.worklist.worklist import Worklist
from lfscp.archive.workflow.worklist_folder.folder import WorklistFolder
from lfscp.config.current import CurrentSettings
from lfscp.services import associations, models, verification
from lfscp.services.added_services import Added, with_handlers
from lfscp.services.audit_events import Patients
from lfscp.services.commitment import n_action, n_event_report
from lfscp.services.contexts import MODALITY_WORKLIST
from lfscp.services.find_request import Response
from lfscp.services.procedure_step import n_create_n_set_n_get
from lfscp.services.query_retrieve import c_move_c_get
from lfscp.services.query_retrieve.c_find import ArchiveFind
from lfscp.services.storage import c_store
from lfscp.services.worklist.c_find import WorklistFind

if TYPE_CHECKING:
    from lfscp.archive.archive import Archive
    from lfscp.config import Settings


def all_handlers(
    archive: Archive, settings: Settings | CurrentSettings, added: Added = ()
) -> list[tuple[Any, Any]]:
    """Every handler of a node, for a server's `evt_handlers`.

    Args:
        added: the services of plug-ins.
    Raises:
        PluginError: these cannot be added.
    """
    current = CurrentSettings.of(settings)
    patients = Patients(archive)
    worklist = Worklist(archive.index)
    folder = None
    if current.settings.worklist.folder:
        path = Path(current.settings.worklist.folder)
        folder = WorklistFolder(worklist, path, archive.data_dir)

    def find(event: evt.Event) -> Iterator[Response]:
        """Answer a C-FIND, which has one handler for all SOP classes."""
        request: Any = event.request
        if request.AffectedSOPClassUID == MODALITY_WORKLIST:
            asked = archive.interceptor
            return WorklistFind(worklist, folder, current.settings, event, asked).responses()
        return ArchiveFind(archive, current.settings, event).responses()

    own = [
        *associations.handlers(patients),
        *verification.handlers(current),
        *c_store.handlers(archive, current, patients),
        (evt.EVT_C_FIND, find),
        *c_move_c_get.handlers(archive, current),
        *n_create_n_set_n_get.handlers(archive, current),
        *n_action.handlers(archive, current),
        *n_event_report.handlers(archive),
        *models.handlers(),
    ]
    return with_handlers(own, added)
