"""Answers C-FIND on the archive: makes a query of the identifier (PS3.4 C.4.1).

At IMAGE level, values that the index lacks are read from the objects; if an object cannot be read,
its match has 0xFF01.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import TYPE_CHECKING

from pynetdicom import evt

from lfscp.archive.query.query import Query, parse_query
from lfscp.services import status
from lfscp.services.find_request import FindRequest
from lfscp.services.identifier import read
from lfscp.services.models import QUERY_MODELS, negotiated
from lfscp.services.refused import RefusedError

if TYPE_CHECKING:
    from lfscp.archive.archive import Archive
    from lfscp.archive.index.database.interruption import Interruption
    from lfscp.config import Settings


class ArchiveFind(FindRequest):
    """One C-FIND on patients, studies, series and instances."""

    permission = "query"
    not_allowed = "this AE title may not query"

    def __init__(self, archive: Archive, settings: Settings, event: evt.Event) -> None:
        super().__init__(settings, event, archive.interceptor)
        self._archive = archive

    def found(
        self, limit: int, interruption: Interruption
    ) -> tuple[int, Generator[bytes, None, None]]:
        query = self._read_request()
        matched = status.PENDING
        if query.unsupported_keys:
            matched = status.PENDING_WITHOUT_OPTIONAL_KEYS
        return matched, self._archive.find(
            query,
            transfer_syntax_uid=str(self.event.context.transfer_syntax),
            retrieve_ae_title=self.settings.server.ae_title,
            limit=limit,
            interruption=interruption,
        )

    def _read_request(self) -> Query:
        model = QUERY_MODELS.get(self.sop_class_uid)
        if model is None:
            raise RefusedError(status.SOP_CLASS_NOT_SUPPORTED, "no query model of this node")
        options = negotiated(self.event.assoc, self.sop_class_uid)
        return read(
            self.event,
            lambda identifier: parse_query(
                identifier,
                model,
                relational=options.relational,
                combined_date_time=options.combined_date_time,
                fuzzy_names=options.fuzzy_names or self.settings.query.fuzzy_names,
            ),
            self.settings.budgets.key_values,
        )
