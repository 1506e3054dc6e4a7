"""Answers C-FIND on the modality worklist (PS3.4 section K.4.1).

The log says for which station, modality and days a device asks: that is where to look when it shows
an empty list.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import TYPE_CHECKING, Final

from pynetdicom import evt

from lfscp.archive.workflow.worklist.item import MODALITY, START_DATE, STATION_AE_TITLE, STEPS
from lfscp.archive.workflow.worklist.query import WorklistQuery, parse_worklist_query
from lfscp.dicom.reading import identifiers
from lfscp.dicom.reading.identifiers import Identifier
from lfscp.services import status
from lfscp.services.find_request import FindRequest
from lfscp.services.identifier import read

if TYPE_CHECKING:
    from lfscp.archive.index.database.interruption import Interruption
    from lfscp.archive.interceptor import Interceptor
    from lfscp.archive.workflow.worklist.worklist import Worklist
    from lfscp.archive.workflow.worklist_folder.folder import WorklistFolder
    from lfscp.config import Settings

# Keys of the step, by the name of their field in the log.
_LOGGED: Final = {
    "station": (STATION_AE_TITLE, "AE"),
    "modality": (MODALITY, "CS"),
    "date": (START_DATE, "DA"),
}
_MAX_LOGGED: Final = 64  # characters


class WorklistFind(FindRequest):
    """One C-FIND on the items of the worklist."""

    permission = "worklist"
    not_allowed = "this AE title may not query the worklist"

    def __init__(
        self,
        worklist: Worklist,
        folder: WorklistFolder | None,
        settings: Settings,
        event: evt.Event,
        interceptor: Interceptor | None = None,
    ) -> None:
        super().__init__(settings, event, interceptor)
        self._worklist = worklist
        self._folder = folder

    def found(
        self, limit: int, interruption: Interruption
    ) -> tuple[int, Generator[bytes, None, None]]:
        query = read(self.event, self._parse, self.settings.budgets.key_values)
        if self._folder is not None:
            self._folder.before_query()
        matched = status.PENDING
        if query.unsupported_keys:
            matched = status.PENDING_WITHOUT_OPTIONAL_KEYS
        return matched, self._worklist.find(
            query,
            transfer_syntax_uid=str(self.event.context.transfer_syntax),
            limit=limit,
            interruption=interruption,
        )

    def _parse(self, identifier: Identifier) -> WorklistQuery:
        query = parse_worklist_query(identifier)
        if query.steps is not None:
            for step in identifiers.items(identifier, STEPS):
                texts = {name: identifiers.text(step, *key) for name, key in _LOGGED.items()}
                self.asked = {name: text[:_MAX_LOGGED] for name, text in texts.items() if text}
        return query
